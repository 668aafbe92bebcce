#include <math.h>
#include <sys/stat.h>

int main(int count, char **argument) {
    static Line line[4096];
    char name[256], path[1024];
    snprintf(path, sizeof path, "%s/cases/index.txt", argument[1]);
    FILE *index = fopen(path, "r");
    while (fscanf(index, "%255s", name) == 1) {
        if (strncmp(name, "silu/", 5)) continue;
        int n = read_case(argument[1], name, line);
        Line *x = line, *y = line;
        for (int i = 0; i < n; i++) {
            if (!strcmp(line[i].name, "x")) x = &line[i];
            if (!strcmp(line[i].word, "output")) y = &line[i];
        }
        double *v = (double *)x->data;
        for (long i = 0; i < x->size; i++) v[i] /= 1 + exp(-v[i]);
        mkdir(argument[2], 0777);
        snprintf(path, sizeof path, "%s/silu", argument[2]), mkdir(path, 0777);
        snprintf(path, sizeof path, "%s/%s", argument[2], name), mkdir(path, 0777);
        snprintf(path, sizeof path, "%s/%s/output.f64.%ld.bin", argument[2], name, y->size);
        FILE *answer = fopen(path, "wb");
        fwrite(v, 8, x->size, answer), fclose(answer);
    }
    return fclose(index);
}
