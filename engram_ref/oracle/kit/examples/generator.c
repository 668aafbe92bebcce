#include <math.h>
#include <stdint.h>

double generated(uint64_t seed, uint64_t tensor, uint64_t i, int exponent) {
    uint64_t z = seed + tensor * 0xD1342543DE82EF95u + (i + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return ldexp((double)(z & 127) + (double)(z >> 8 & 127) - 127, exponent);
}
