#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { char word[16], name[256], dtype[8], *data; int axes; long shape[8], size; } Line;

/* Append the lines of a text file; return their number. `data` holds an array, or the rest of any other line. */
int read_lines(const char *kit, const char *file, Line *line, int n) {
    char path[1024], shape[64], text[8192];
    snprintf(path, sizeof path, "%s/%s", kit, file);
    FILE *f = fopen(path, "r"), *b;
    for (Line *l = &line[n]; f && fscanf(f, "%15s %255s", l->word, l->name) == 2; l = &line[n]) {
        *text = l->axes = 0, l->size = 1, fgets(text, sizeof text, f), l->data = strdup(text), n++;
        if (!strcmp(l->word, "parameters")) n = read_lines(kit, l->name, line, n);
        if (!strstr("argument parameter stage output", l->word)) continue;
        sscanf(text, "%7s %63s %255s", l->dtype, shape, path);
        for (char *p = strtok(shape, "x"); p && strcmp(p, "scalar"); p = strtok(NULL, "x"))
            l->size *= l->shape[l->axes++] = atol(p);
        snprintf(text, sizeof text, "%s/%s", kit, path);
        b = fopen(text, "rb"), l->data = realloc(l->data, l->size * 8 + 1);
        if (b) fread(l->data, 1, l->size * 8, b), fclose(b);
    }
    if (f) fclose(f);
    return n;
}

int read_case(const char *kit, const char *name, Line *line) {
    char file[512];
    snprintf(file, sizeof file, "cases/%s/case.txt", name);
    return read_lines(kit, file, line, 0);
}
