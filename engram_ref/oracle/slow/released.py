"""DeepSeek-V4.1's Engram module at one position, with every rounding.

Each sum is exact and then rounded to float32 once, so an implementation may add in any order in float32: it differs by
its own rounding errors. The roundings to FP8 and bfloat16 are exactly these.
"""

from fractions import Fraction

from engram_ref.oracle.slow import codecs, module


def decode(codes, scale_bytes):
    """Return one table row in float32: codes [W], one scale byte per 32 codes."""
    return [codecs.dequantise(code, scale_bytes[i // 32])[0] for i, code in enumerate(codes)]


def memory(rows):
    """Return the memory [C*W]: the rows (codes, scale_bytes) decoded, rounded to bfloat16 and concatenated."""
    return [codecs.to_bfloat16(value) for codes, scale_bytes in rows for value in decode(codes, scale_bytes)]


def requantise(values, floor=1e-4):
    """Return the values of the FP8 numbers to which blocks of 32 values are rounded."""
    blocks = [codecs.quantise_block(values[i : i + 32], floor) for i in range(0, len(values), 32)]
    return [value for codes, byte in blocks for value in decode(codes, [byte])]


def project(weight, x):
    """Return weight [out][in] times x: sums in float32, each rounded to bfloat16."""
    return [codecs.to_bfloat16(codecs.to_float32(exact_dot(line, x))) for line in weight]


def exact_dot(x, y):
    """Return the exact sum of the products, as a fraction; NaN or an infinity if an addend is one."""
    try:
        return sum(Fraction(a) * Fraction(b) for a, b in zip(x, y, strict=True))
    except (OverflowError, ValueError):             # fractions have neither
        return sum(a * b for a, b in zip(x, y, strict=True))


def alpha(h, key, query_gain, key_gain, eps, dead=False):
    """Return the score and the gate of one branch, in float32."""
    s = codecs.to_float32(module.factored_score(h, key, query_gain, key_gain, eps))
    return s, codecs.to_float32(module.gate(s, "copysign_sqrt", dead))


def gated(gate, value):
    """Return gate * value in float32."""
    return [codecs.to_float32(gate * v) for v in value]


def residual(h, update):
    """Return h + update: the sum in float32 (rounding Python's float64 sum gives the same), rounded to bfloat16."""
    return [codecs.to_bfloat16(codecs.to_float32(a + b)) for a, b in zip(h, update, strict=True)]
