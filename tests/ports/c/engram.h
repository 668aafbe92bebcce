/* engram.h: rows, number formats, gate and module in float64. BUG is the number of a mistake in it; 0 is none. */
#ifndef BUG
#define BUG 0
#endif
#define DEAD (-1)

/* ---- rows ---- */

/* Windows [B, T, N], mixes [B, T, N-1] and rows [B, T, C] of ids [B, T] after a history [B, N-1]; eos -1 means none. */
void address(const int64_t *ids, const int64_t *history, long B, long T, long N, long C, const int64_t *m,
                    const int64_t *primes, int64_t pad, int64_t eos, int64_t *window, int64_t *mix, int64_t *row) {
    for (long p = 0; p < B * T; p++, window += N, mix += N - 1, row += C) {
        int hidden = 0;
        for (long i = 0; i < N; i++) {
            int64_t id = p % T >= i ? ids[p - i] : history[p / T * (N - 1) + N - 1 + p % T - i];
            hidden |= id == DEAD || (i > 0 && eos >= 0 && id == eos);
            window[i] = !hidden ? id : eos >= 0 ? eos : pad;
        }
        for (long n = 2; n <= N; n++) {
            uint64_t mixed = 0;
            for (long i = 0; i < n; i++) mixed ^= (uint64_t)window[i + (BUG == 1 && n < N)] * (uint64_t)m[i];
            mix[n - 2] = (int64_t)mixed;
        }
        for (long c = 0; c < C; c++) {
            int64_t r = mix[c / (C / (N - 1))] % primes[c];
            row[c] = r < 0 ? r + primes[c] : r;
        }
    }
}

/* ---- number formats ---- */

/* Round to float32. */
double single(double x) { return (double)(float)x; }

/* Round to float32, then to bfloat16, ties to even. */
double bf16(double x) {
    float f = (float)x;
    uint32_t bits;
    memcpy(&bits, &f, 4);
    if (isnan(f)) return f;
    bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000u;
    return memcpy(&f, &bits, 4), f;
}

/* Multiply the number of an E4M3 code by that of an E8M0 scale. */
double fp8(int64_t code, int64_t scale) {
    int exponent = code >> 3 & 15, mantissa = code & 7;
    double size = exponent ? ldexp(8 + mantissa, exponent - 10) : ldexp(mantissa, -9);
    if ((code & 127) == 127 || scale == 255) return NAN;
    if (BUG == 3 && scale == 0) size = 0;
    return ldexp(code & 128 ? -size : size, (int)scale - 127);
}

/* Replace blocks of 32 numbers by the nearest numbers of E4M3 with a common scale. */
void requantise(double *x, long n, double floor) {
    for (double *b = x; b < x + n; b += 32) {
        double largest = floor;
        int finite = 1, e = 0;
        for (int k = 0; k < 32; k++) finite &= isfinite(b[k]) != 0, largest = fmax(largest, fabs(b[k]));
        if (finite && frexp(largest / 448, &e) == 0.5) e--;
        e = e < -127 ? -127 : e > 127 ? 127 : e;
        for (int k = 0; k < 32; k++) {
            if (!finite) { b[k] = NAN; continue; }
            double v = fabs(ldexp(b[k], -e)), step = ldexp(1, v < ldexp(1, -6) ? -9 : ilogb(v) - 3);
            b[k] = single(copysign(ldexp(fmin(nearbyint(v / step) * step, 448), e), b[k]));
        }
    }
}

/* ---- norm, gate, convolution ---- */

/* Add the products of two vectors. */
double dot(const double *a, const double *b, long n) {
    double sum = 0;
    for (long i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* Divide a vector by the root of its mean square plus eps, and multiply it by shift + gain. */
void rms_norm(const double *x, const double *gain, long D, double eps, double shift, double *y) {
    double root = sqrt(dot(x, x, D) / D + eps);
    for (long d = 0; d < D; d++) y[d] = x[d] / root * (shift + gain[d]);
}

/* Compute 1 / (1 + exp(-x)) without overflow. */
double sigmoid(double x) { return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x)); }

/* Return the root of the score that the form asks for. */
double root_of(double s, const char *form) {
    double root = isnan(s) ? s : sqrt(fmax(fabs(s), 1e-6));
    if (!strcmp(form, "sigmoid")) return s;
    if (!strcmp(form, "signed_sqrt")) return s == 0 ? 0 : copysign(root, s);
    return BUG == 2 ? (s < 0 ? -root : root) : copysign(root, s);
}

/* Convolve x [B, T, width] causally, after the taps [B, (L-1)*dilation, width]. */
void short_conv(const double *x, const double *taps, const double *weight, long B, long T, long width, long L,
                       long dilation, double *y) {
    long S = (L - 1) * dilation;
    for (long k = 0; k < B * T * width; k++) {
        long b = k / width / T, t = k / width % T, c = k % width;
        for (long j = 0; j < L; j++) {
            long from = t - (L - 1 - j) * dilation;
            y[k] += weight[c * L + (BUG == 7 ? L - 1 - j : j)] *
                    (from >= 0 ? x[(b * T + from) * width + c] : taps[(b * S + S + from) * width + c]);
        }
    }
}
