/* ops.h: a runner for address, gate and rms_norm. */
static void run_address(void) {
    Line *ids = array("ids"), *m = array("multipliers"), *offsets = array("offsets");
    long B = ids->shape[0], T = ids->shape[1], N = m->size, C = array("primes")->size, n = B * T;
    int64_t *windows = zeros(n * N), *mix = zeros(n * (N - 1)), *rows = zeros(n * C);
    address(ids->i, array("history")->i, B, T, N, C, m->i, array("primes")->i, (int64_t)number("pad_id", 0),
            (int64_t)number("eos_id", -1), windows, mix, rows);
    answer("windows", "i64", windows, 3, (long[]){B, T, N});
    answer("mix", "i64", mix, 3, (long[]){B, T, N - 1});
    answer("rows", "i64", rows, 3, (long[]){B, T, C});
    for (long k = 0; offsets && k < n * C; k++) rows[k] += offsets->i[k % C];
    answer("output", "i64", rows, 3, (long[]){B, T, C});
}

static void run_gate(void) {
    Line *s = array("s"), *dead = array("dead");
    for (long k = 0; k < s->size; k++)
        s->f[k] = dead && dead->i[k / s->shape[2]] ? 0 : sigmoid(root_of(s->f[k], text("form")));
    answer("output", "f64", s->f, s->axes, s->shape);
}

static void run_rms_norm(void) {
    Line *x = array("x"), *gain = array("gain");
    long D = x->shape[x->axes - 1];
    for (long k = 0; k < x->size; k += D)
        rms_norm(x->f + k, gain->f + k % gain->size, D, number("eps", ldexp(1, -52)), 0, x->f + k);
    answer("output", "f64", x->f, x->axes, x->shape);
}
