#include "kit.h"

static void run_silu(void) {
    Line *x = array("x");
    for (long k = 0; k < x->size; k++) x->f[k] /= 1 + exp(-x->f[k]);
    answer("output", "f64", x->f, x->axes, x->shape);
}

int main(int count, char **argument) {
    const Op ops[] = {
        {"silu", run_silu},
        {0}};
    return answer_cases(count, argument, ops);
}
