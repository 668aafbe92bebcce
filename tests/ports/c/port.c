/* port.c: the ops of Engram's module and its streams, in float64; every other op is unsupported. */
#include "kit.h"
#include "engram.h"
#include "ops.h"

/* A module: its configuration, and S = (L-1) * dilation, the number of tokens in its taps. */
typedef struct {
    long N, C, W, E, M, D, L, S;
    double eps, conv_eps, shift;
    int rounded;
    const char *form, *dtype;                   /* of the answers */
} Module;

/* Everything that a module computes for a chunk. */
typedef struct {
    double *memory, *key, *value, *query_norm, *key_norm, *score, *gate, *gated, *conv_norm, *conv, *output;
} Chunk;

/* A stream keeps an item per token of each row: its id, or its normalised gated values. */
typedef struct { char name[32]; long batch, length[8]; char *items[8]; } Stream;

/* Read the configuration of a case. */
static Module module(void) {
    Module m = {.form = text("gate_form"), .eps = BUG == 4 ? 1e-5 : number("norm_eps", ldexp(1, -52)),
                .conv_eps = number("conv_norm_eps", ldexp(1, -52)), .rounded = !strcmp(text("rounding"), "fp8_bf16"),
                .shift = !strcmp(text("gain_form"), "zero_centred")};
    m.N = (long)number("max_ngram", 0), m.W = (long)number("row_width", 0), m.L = (long)number("conv_kernel", 0);
    m.M = (long)number("n_branches", 0), m.D = (long)number("hidden_size", 0);
    m.C = (m.N - 1) * (long)number("n_heads", 0), m.E = m.C * m.W, m.dtype = m.rounded ? "f32" : "f64";
    m.S = m.L ? (m.L - 1) * (long)number("conv_dilation", 0) : 0;
    return m;
}

/* Decode the rows of a token and concatenate them; return 0 if a row is not in its column's table. */
static int gather(const Module *m, const int64_t *rows, double *memory) {
    Line *table = array("table"), *codes = array("table_codes"), *scales = array("table_scales");
    int64_t *offsets = array("column_offsets")->i;
    for (long c = 0; c < m->C; c++) {
        int64_t row = offsets[c] + rows[c], end = c + 1 < m->C ? offsets[c + 1] : (codes ? codes : table)->shape[0];
        if (rows[c] < 0 || row >= end) return 0;
        for (long k = row * m->W; k < (row + 1) * m->W; k++) {
            double x = codes ? single(fp8(codes->i[k], scales->i[k / 32])) : table->f[k];
            *memory++ = m->rounded ? bf16(x) : x;
        }
    }
    return 1;
}

/* Multiply the rows of a weight by x, and add the bias if there is one. */
static void project(const Module *m, const double *x, const char *weight, const char *bias, double *y) {
    Line *w = array(weight), *b = array(bias);
    for (long k = 0; k < w->size / m->E; k++) {
        y[k] = dot(w->f + k * m->E, x, m->E) + (b ? b->f[k] : 0);
        if (m->rounded) y[k] = bf16(y[k]);
    }
}

/* Return the score of one branch of a token, and the normalised vectors. */
static double score_of(const Module *m, long branch, const double *h, const double *k, double *h_norm, double *k_norm) {
    double *query_gain = array("query_gain")->f + branch * m->D, *key_gain = array("key_gain")->f + branch * m->D;
    rms_norm(h, query_gain, m->D, m->eps, m->shift, h_norm), rms_norm(k, key_gain, m->D, m->eps, m->shift, k_norm);
    return dot(h_norm, k_norm, m->D) / sqrt(m->D);
}

/* Compute a chunk [B, T] that starts at a column of the arguments; return 0 if a row does not exist. */
static int run_chunk(const Module *m, long B, long column, long T, const double *taps, Chunk *k) {
    Line *hidden = array("hidden"), *rows = array("rows"), *dead = array("dead");
    long n = B * T, D = m->D, MD = m->M * D;
    *k = (Chunk){zeros(n * m->E), zeros(n * MD), zeros(n * D), zeros(n * MD), zeros(n * MD), zeros(n * m->M),
                 zeros(n * m->M), zeros(n * MD), zeros(n * MD), zeros(n * MD), zeros(n * MD)};
    for (long p = 0; p < n; p++) {
        long at = p / T * hidden->shape[1] + column + p % T;
        double *x = zeros(m->E);
        if (!gather(m, rows->i + at * m->C, k->memory + p * m->E)) return 0;
        memcpy(x, k->memory + p * m->E, 8 * m->E);
        if (m->rounded) requantise(x, m->E, number("quantise_floor", 0));
        project(m, x, "key_weight", "key_bias", k->key + p * MD);
        project(m, x, "value_weight", "value_bias", k->value + p * D);
        for (long i = p * m->M; i < (p + 1) * m->M; i++) {
            long branch = i % m->M;
            k->score[i] = score_of(m, branch, hidden->f + at * MD + branch * D, k->key + i * D, k->query_norm + i * D,
                                   k->key_norm + i * D);
            k->gate[i] = dead && dead->i[at] ? 0 : sigmoid(root_of(k->score[i], m->form));
            for (long d = 0; d < D; d++) k->output[i * D + d] = k->gated[i * D + d] = k->gate[i] * k->value[p * D + d];
        }
    }
    if (!m->L) return 1;
    for (long i = 0, at = 0; i < n * m->M; at = ++i * D)
        rms_norm(k->gated + at, array("conv_gain")->f + at % MD, D, m->conv_eps, m->shift, k->conv_norm + at);
    short_conv(k->conv_norm, taps, array("conv_weight")->f, B, T, MD, m->L, m->S / (m->L - 1), k->conv);
    for (long i = 0; i < n * MD; i++) k->conv[i] *= sigmoid(k->conv[i]), k->output[i] = k->conv[i] + k->gated[i];
    return 1;
}

/* Return the last S items of each row; before its start, the fill. */
static void *last(const Stream *s, long S, long bytes, const void *fill) {
    char *out = zeros(s->batch * S * bytes / 8);
    for (long k = 0; k < s->batch * S; k++) {
        long at = s->length[k / S] - S + k % S;
        memcpy(out + k * bytes, at < 0 ? fill : s->items[k / S] + at * bytes, bytes);
    }
    return out;
}

/* Append T items to row b. */
static void append(Stream *s, long b, const void *items, long T, long bytes) {
    memcpy(s->items[b] + s->length[b] * bytes, items, T * bytes), s->length[b] += T;
}

/* Replace the rows of a stream by copies of these rows of another. */
static void copy_rows(const Stream *from, Stream *to, const int64_t *row, long bytes, long capacity) {
    for (long b = 0; b < to->batch; b++) {
        to->length[b] = from->length[row[b]];
        to->items[b] = memcpy(zeros(capacity * bytes / 8), from->items[row[b]], to->length[b] * bytes);
    }
}

/* Feed T columns of ids: answer the rows, and append the ids. */
static void feed_ids(Stream *s, const Module *m, int step, long column, long T) {
    char name[64];
    Line *ids = array("canonical_ids");
    long B = s->batch, n = B * T;
    int64_t start = DEAD, multipliers[16], primes[64], *history = last(s, m->N - 1, 8, &start);
    int64_t *chunk = zeros(n), *windows = zeros(n * m->N), *mix = zeros(n * m->N), *rows = zeros(n * m->C);
    for (long k = 0; BUG == 5 && T == 1 && k < B * (m->N - 1); k++) history[k] = DEAD;
    for (long p = 0; p < n; p++) chunk[p] = ids->i[p / T * ids->shape[1] + column + p % T];
    snprintf(name, sizeof name, "hashing.layers.%s.multipliers", text("layer_id")), integers(text(name), multipliers);
    snprintf(name, sizeof name, "hashing.layers.%s.primes", text("layer_id")), integers(text(name), primes);
    address(chunk, history, B, T, m->N, m->C, multipliers, primes, (int64_t)number("hashing.pad_id", 0),
            (int64_t)number("hashing.eos_id", -1), windows, mix, rows);
    for (long b = 0; b < B; b++) append(s, b, chunk + b * T, T, 8);
    snprintf(name, sizeof name, "%d.rows", step), answer(name, "i64", rows, 2, (long[]){n, m->C});
}

/* Feed T columns of hidden states and rows: answer the output, and append the normalised gated values. */
static void feed_hidden(Stream *s, const Module *m, int step, long column, long T) {
    char name[64];
    long bytes = 8 * m->M * m->D;
    double *start = zeros(bytes / 8), *taps = last(s, m->S, bytes, start);
    Chunk k;
    if (BUG == 6 && T == 1) taps = zeros(s->batch * m->S * bytes / 8);
    run_chunk(m, s->batch, column, T, taps, &k);
    for (long b = 0; b < s->batch; b++) append(s, b, k.conv_norm + b * T * bytes / 8, T, bytes);
    snprintf(name, sizeof name, "%d.output", step);
    answer(name, m->dtype, k.output, 3, (long[]){s->batch * T, m->M, m->D});
}

/* Start the rows of a stream after raw ids: per row their number, then the ids. */
static void prefix(Stream *s, const int64_t *word) {
    char rest[256];
    long size = (long)number("vocab_size", 0);
    Line map = {.rest = rest};
    snprintf(rest, sizeof rest, "i64 %ld constants/%s/canonical.i64.%ld.bin", size, text("vocabulary"), size);
    if (text("vocabulary")) load(&map);
    for (long b = 0; b < s->batch; b++)
        for (int64_t n = *word++; n > 0; n--, word++) append(s, b, map.i && *word != DEAD ? map.i + *word : word, 1, 8);
}

/* Play the steps of a stream; its feeds consume the columns from the left. */
static void run_stream(void) {
    static int64_t word[4096];
    Module m = module();
    int ids = !strcmp(line[1].name, "addressing_stream"), step = 0, streams = 1;
    Line *input = array(ids ? "canonical_ids" : "hidden");
    long bytes = ids ? 8 : 8 * m.M * m.D, capacity = input->shape[1] + 256, column = 0;
    int64_t start = DEAD, row[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    Stream all[4] = {{.name = "main", .batch = input->shape[0]}};
    for (long b = 0; b < input->shape[0]; b++) all->items[b] = zeros(capacity * bytes / 8);
    for (Line *l = line; l < line + lines; l++) {
        if (strcmp(l->word, "step")) continue;
        Stream *s = all, old;
        while (strcmp(s->name, l->name)) s++;
        char verb[16], name[32];
        int at = 0;
        sscanf(l->rest, "%15s %n", verb, &at), old = *s;
        int count = integers(l->rest + at, word);
        if (!strcmp(verb, "feed")) (ids ? feed_ids : feed_hidden)(s, &m, step, column, word[0]), column += word[0];
        else if (!strcmp(verb, "prefix")) prefix(s, word);
        else if (!strcmp(verb, "rollback")) for (int b = 0; b < count; b++) s->length[b] -= word[b];
        else if (!strcmp(verb, "reorder")) s->batch = count, copy_rows(&old, s, word, bytes, capacity);
        else {                                  /* fork */
            all[streams] = *s, snprintf(all[streams].name, 32, "%s", l->rest + at);
            copy_rows(&old, &all[streams++], row, bytes, capacity);
        }
        snprintf(name, sizeof name, "%d.%s", step++, ids ? "history" : "taps");
        if (ids) answer(name, "i64", last(s, m.N - 1, 8, &start), 2, (long[]){s->batch, m.N - 1});
        else answer(name, m.dtype, last(s, m.S, bytes, zeros(bytes / 8)), 4, (long[]){s->batch, m.S, m.M, m.D});
    }
}

/* engram: all chunks of a text; the answers are those of the last one. */
static void run_engram(void) {
    Module m = module();
    Line *hidden = array("hidden");
    long B = hidden->shape[0], column = 0, bytes = 8 * m.M * m.D;
    int64_t chunk[64];
    int count = integers(text("chunks"), chunk);
    Stream s = {.batch = B};
    Chunk k;
    for (long b = 0; b < B; b++) s.items[b] = zeros(hidden->shape[1] * bytes / 8);
    for (int i = 0; i < count; column += chunk[i++]) {
        if (!run_chunk(&m, B, column, chunk[i], last(&s, m.S, bytes, zeros(bytes / 8)), &k)) {
            fclose(create("refused"));
            return;
        }
        for (long b = 0; b < B; b++) append(&s, b, k.conv_norm + b * chunk[i] * bytes / 8, chunk[i], bytes);
    }
    long shape[4] = {B, chunk[count - 1], m.M, m.D};
    const struct { const char *name; double *data; int axes; } stages[] = {
        {"key", k.key, 4}, {"query_norm", k.query_norm, 4}, {"key_norm", k.key_norm, 4}, {"score", k.score, 3},
        {"gate", k.gate, 3}, {"gated", k.gated, 4}, {"conv_norm", k.conv_norm, 4}, {"conv", k.conv, 4},
        {"output", k.output, 4}};
    for (int i = 0; i < 9; i++) answer(stages[i].name, m.dtype, stages[i].data, stages[i].axes, shape);
    answer("memory", m.dtype, k.memory, 3, (long[]){shape[0], shape[1], m.E});
    answer("value", m.dtype, k.value, 3, (long[]){shape[0], shape[1], m.D});
    answer("taps", m.dtype, last(&s, m.S, bytes, zeros(bytes / 8)), 4, (long[]){B, m.S, m.M, m.D});
}

/* copysign_sqrt: the root of each score. */
static void run_copysign_sqrt(void) {
    Line *s = array("s");
    for (long k = 0; k < s->size; k++) s->f[k] = root_of(s->f[k], "copysign_sqrt");
    answer("output", "f64", s->f, s->axes, s->shape);
}

/* dequantise: 32 codes per scale. */
static void run_dequantise(void) {
    Line *codes = array("codes"), *scales = array("scales");
    double *x = zeros(codes->size);
    for (long k = 0; k < codes->size; k++) x[k] = fp8(codes->i[k], scales->i[k / 32]);
    answer("output", text("dtype"), x, codes->axes, codes->shape);
}

/* short_conv: all channels of all branches. */
static void run_short_conv(void) {
    Line *x = array("x"), *w = array("weight");
    double *y = zeros(x->size);
    short_conv(x->f, array("taps")->f, w->f, x->shape[0], x->shape[1], x->shape[2] * x->shape[3], w->shape[2],
               (long)number("dilation", 1), y);
    answer("output", "f64", y, 4, x->shape);
}

int main(int count, char **argument) {
    const Op ops[] = {
        {"address", run_address}, {"addressing_stream", run_stream}, {"dequantise", run_dequantise},
        {"gate", run_gate}, {"copysign_sqrt", run_copysign_sqrt}, {"rms_norm", run_rms_norm},
        {"short_conv", run_short_conv}, {"engram", run_engram}, {"engram_stream", run_stream}, {0}};
    return answer_cases(count, argument, ops);
}
