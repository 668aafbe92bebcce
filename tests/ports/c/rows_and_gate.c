#include "kit.h"
#include "engram.h"
#include "ops.h"

int main(int count, char **argument) {
    const Op ops[] = {{"address", run_address}, {"gate", run_gate}, {"rms_norm", run_rms_norm}, {0}};
    return answer_cases(count, argument, ops);
}
