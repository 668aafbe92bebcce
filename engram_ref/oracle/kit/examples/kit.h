/* kit.h: read the cases of a kit and write answers, in C99 and POSIX. Include it in one file of a program. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* A line: word, name and the rest. A loaded array has its elements in f if they are floats, otherwise in i. */
typedef struct {
    char word[16], name[256], *rest, dtype[8];
    int axes;
    long shape[8], size;
    double *f;
    int64_t *i;
} Line;
typedef struct { const char *name; void (*run)(void); } Op;

static Line line[4096];                         /* of the case: its name is in line[0], its op in line[1] */
static int lines;
static const char *kit, *results;
static struct Block { struct Block *next; } *blocks;

/* Return n zeros, as doubles or int64_t, which are freed after the case. */
void *zeros(long n) {
    struct Block *block = calloc(n + 2, 8);
    return block->next = blocks, blocks = block, block + 1;
}

/* Append the lines of a file and of the files that it names. The fields of a configuration get the word `field`. */
void read_lines(const char *file, const char *word) {
    char path[1024], text[8192];
    snprintf(path, sizeof path, "%s/%s", kit, file);
    FILE *f = fopen(path, "r");
    if (!f) perror(path), exit(2);
    for (int at = 0; lines < 4096 && fgets(text, sizeof text, f); at = 0) {
        Line *l = memset(&line[lines++], 0, sizeof *line);
        text[strcspn(text, "\n")] = 0, strcpy(l->word, word);
        if (!*word) sscanf(text, "%15s %n", l->word, &at);
        l->rest = strcpy(zeros((long)strlen(text)), text + at), sscanf(l->rest, "%255s", l->name);
        l->rest += strlen(l->name), l->rest += *l->rest == ' ';
        if (!strcmp(l->word, "config")) read_lines(l->rest, "field");
        if (!strcmp(l->word, "parameters")) read_lines(l->name, "");
    }
    fclose(f);
}

/* Read the integers at the start of a text and return their number; the array has room for one more. */
int integers(const char *text, int64_t *number) {
    int n = 0;
    for (char *end; number[n] = strtoll(text, &end, 10), end != text; n++) text = end;
    return n;
}

/* Return z of element i of a generated array. */
uint64_t generated(uint64_t seed, uint64_t tensor, uint64_t i) {
    uint64_t z = seed + tensor * 0xD1342543DE82EF95u + (i + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* Generate an array; numbers after seed, tensor and exponent are the rows of it that are needed. */
void generate(Line *l, const char *rest) {
    int64_t number[4096];
    long rows = integers(rest, number) - 3, inner = l->size / l->shape[0];
    if (rows > 0) l->shape[0] = rows, l->size = rows * inner;
    l->f = zeros(l->size), l->i = (int64_t *)l->f;
    for (long k = 0; k < l->size; k++) {
        uint64_t z = generated(number[0], number[1], rows > 0 ? number[3 + k / inner] * inner + k % inner : k);
        if (*l->dtype == 'u') l->i[k] = z & 255;
        else l->f[k] = ldexp((double)(z & 127) + (double)(z >> 8 & 127) - 127, (int)number[2]);
    }
}

/* Return the number of bytes of an element. */
int width_of(const char *dtype) { return strcmp(dtype, "bool") ? atoi(dtype + strcspn(dtype, "0123456789")) / 8 : 1; }

/* Read dtype, shape and elements of an array, on a little-endian computer. */
void load(Line *l) {
    char path[1024], shape[64], *raw;
    int at = 0, width;
    sscanf(l->rest, "%7s %63s %n", l->dtype, shape, &at), l->size = 1, width = width_of(l->dtype);
    for (char *p = strtok(shape, "x"); p && strcmp(p, "scalar"); p = strtok(NULL, "x"))
        l->size *= l->shape[l->axes++] = atol(p);
    if (!strcmp(l->word, "generated")) { generate(l, l->rest + at); return; }
    l->f = zeros(l->size), l->i = (int64_t *)l->f, raw = zeros(l->size);
    snprintf(path, sizeof path, "%s/%.*s", kit, (int)strcspn(l->rest + at, " "), l->rest + at);
    FILE *f = fopen(path, "rb");
    if (!f || (long)fread(raw, width, l->size, f) < l->size) perror(path), exit(2);
    fclose(f);
    for (long k = 0; k < l->size; k++, raw += width) {
        float single = 0;                       /* a number of bfloat16 is the upper half of one of binary32 */
        if (strcmp(l->dtype, "f32") && strcmp(l->dtype, "bf16")) memcpy(&l->i[k], raw, width);
        else memcpy((char *)&single + 4 - width, raw, width), l->f[k] = single;
    }
}

/* Return a line by its word and name, or NULL. */
Line *find(const char *word, const char *name) {
    Line *l = line;
    while (l < line + lines && (strcmp(l->name, name) || strcmp(l->word, word))) l++;
    return l < line + lines ? l : NULL;
}

/* Return an input array; the text of a value, or of a field of the configuration; and its number. NULL if absent. */
Line *array(const char *name) {
    Line *l = find("argument", name);
    if (!l && !(l = find("parameter", name))) l = find("generated", name);
    if (l && !l->f) load(l);
    return l;
}
const char *text(const char *name) {
    Line *l = find("value", name) ? find("value", name) : find("field", name);
    return l && strcmp(l->rest, "null") ? l->rest : NULL;
}
double number(const char *name, double if_null) { return text(name) ? atof(text(name)) : if_null; }

/* Create a file of the case, for example an empty one named refused. */
FILE *create(const char *name) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", results, line[1].name), mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/%s", results, line[0].name), mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/%s/%s", results, line[0].name, name);
    return fopen(path, "wb");
}

/* Write an answer, if the case lists it: doubles as f64 or f32, int64_t as i64, u8 or bool. */
void answer(const char *stage, const char *dtype, const void *data, int axes, const long *shape) {
    char name[256];
    int at = snprintf(name, sizeof name, "%s.%s.%s", stage, dtype, axes ? "" : "scalar");
    long size = 1;
    if (!find("stage", stage) && !find("output", stage)) return;
    for (int a = 0; a < axes; size *= shape[a++])
        at += snprintf(name + at, sizeof name - at, a ? "x%ld" : "%ld", shape[a]);
    FILE *f = create(strcat(name, ".bin"));
    for (long k = 0; k < size; k++) {
        float single = strcmp(dtype, "f32") ? 0 : (float)((const double *)data)[k];
        fwrite(strcmp(dtype, "f32") ? (const char *)data + 8 * k : (char *)&single, width_of(dtype), 1, f);
    }
    fclose(f);
}

/* Run the functions of some ops, the last of which is {0}, on all of their cases; list other ops as unsupported. */
int answer_cases(int count, char **argument, const Op *ops) {
    char name[256], path[1024];
    if (count != 3) return fprintf(stderr, "usage: %s KIT RESULTS\n", *argument), 2;
    kit = argument[1], results = argument[2], mkdir(results, 0777);
    snprintf(path, sizeof path, "%s/unsupported", results);
    FILE *unsupported = fopen(path, "w"), *index = unsupported;
    if (index) snprintf(path, sizeof path, "%s/cases/index.txt", kit), index = fopen(path, "r");
    if (!index) return perror(path), 2;
    while (fscanf(index, "%255s", name) == 1) {
        const Op *op = ops;
        snprintf(path, sizeof path, "cases/%s/case.txt", name), lines = 0, read_lines(path, "");
        while (op->name && strcmp(op->name, line[1].name)) op++;
        op->name ? op->run() : (void)fprintf(unsupported, "%s\n", line[1].name);
        for (struct Block *next; blocks; blocks = next) next = blocks->next, free(blocks);
    }
    return fclose(unsupported) | fclose(index);
}
