#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { char word[16], name[128], dtype[8], *data; int axes; long shape[8], size; } Line;

/* Read cases/NAME/case.txt; return the number of lines. `data` holds an array, or the rest of any other line. */
int read_case(const char *kit, const char *name, Line *line) {
    char path[1024], shape[64], file[256], text[8192];
    int n = 0;
    snprintf(path, sizeof path, "%s/cases/%s/case.txt", kit, name);
    FILE *f = fopen(path, "r"), *b;
    for (Line *l = line; f && fscanf(f, "%15s %127s", l->word, l->name) == 2; l = &line[++n]) {
        *text = l->axes = 0, l->size = 1, fgets(text, sizeof text, f);
        l->data = strdup(text);
        if (!strstr("argument parameter stage output", l->word)) continue;
        sscanf(text, "%7s %63s %255s", l->dtype, shape, file);
        for (char *p = strtok(shape, "x"); p && strcmp(p, "scalar"); p = strtok(NULL, "x"))
            l->size *= l->shape[l->axes++] = atol(p);
        snprintf(path, sizeof path, "%s/%s", kit, file);
        b = fopen(path, "rb"), l->data = realloc(l->data, l->size * 8 + 1);
        if (b) fread(l->data, 1, l->size * 8, b), fclose(b);
    }
    if (f) fclose(f);
    return n;
}
