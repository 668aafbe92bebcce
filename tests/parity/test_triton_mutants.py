"""Wrong variants of the kernels' helper functions, each caught by a named test.

The interpreter looks up a kernel's helpers by name at every run, so a mutant can replace them as tests/mutants.py does
in the package. A compiled kernel would keep the original ones.
"""

import importlib

import pytest

from tests.mutants import Mutant, replace_everywhere, resolve

torch = pytest.importorskip("torch", reason="torch is not installed")
tl = pytest.importorskip("triton.language", reason="triton is not installed")

pytestmark = [pytest.mark.usefixtures("kernels_run"),
              pytest.mark.skipif(torch.cuda.is_available(), reason="the kernels are compiled, not interpreted")]
IN_RANGE = "blocks:in_range"
ROWS, FP8, GATE = "test_triton_rows:test_", "test_triton_dequantise:test_", "test_triton_gate:test_"
REMAINDER = ROWS + "the_remainder_is_exact_for_primes_of_any_size"
PAIRS, EDGES = FP8 + "every_pair_of_code_and_scale", GATE + "gates_at_the_edges_of_the_root"


def one_short(original, index, count):
    return index < count - 1


def truncated_remainder(original, x, p, reciprocal, unsigned):
    return x % p


def always_32_bits(original, x, p, reciprocal, unsigned):
    return original(x, p, reciprocal, tl.uint32)


def uncorrected_quotient(original, x, p, reciprocal, unsigned):
    """The quotient by the reciprocal without correction, sometimes too small by one."""
    y = x.to(tl.uint64)
    return (y - tl.umulhi(y, reciprocal) * p.to(tl.uint64)).to(tl.int64)


def nan_codes_are_480(original, code):
    bits = code.to(tl.int32)
    number = ((bits & 0x80) << 24 | (bits & 0x7F) << 20).to(tl.float32, bitcast=True)
    return number * 2.0**120


def zero_without_a_sign(original, code):
    found = original(code)
    return tl.where(found == 0.0, 0.0, found)


def shifted_scale(original, byte):
    return (byte.to(tl.int32) << 23).to(tl.float32, bitcast=True)


def truncated_bf16(original, x):
    return (x.to(tl.uint32, bitcast=True) & 0xFFFF0000).to(tl.float32, bitcast=True)


def ties_away_from_zero(original, x):
    bits = x.to(tl.uint32, bitcast=True)
    return tl.where(x == x, ((bits + 0x8000) & 0xFFFF0000).to(tl.float32, bitcast=True), x)


def rounded_nan(original, x):
    bits = x.to(tl.uint32, bitcast=True)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).to(tl.float32, bitcast=True)


def signed_sqrt(original, s):
    return tl.where(s == 0.0, 0.0, original(s))


def without_a_clamp(original, s):
    root = tl.sqrt_rn(tl.abs(s))
    return tl.where(s < 0.0, 0.0 - root, root)


def negative_by_comparison(original, s):
    return tl.where(s < 0.0, original(s), original(tl.abs(s)))


def nan_is_clamped(original, s):
    return original(tl.where(s == s, s, 0.0))


def plain_sigmoid(original, x):
    return 1.0 / (1.0 + tl.exp(0.0 - x * 1.001))


MUTANTS = {name: Mutant(f"backends.torch.kernels.{target}", wrong, f"parity.{caught}", arguments)
           for name, (target, wrong, caught, *arguments) in {
    "triton-mask-one-row-short-rows": (IN_RANGE, one_short, ROWS + "rows_of_every_preset", "tiny", (1, 1)),
    "triton-mask-one-row-short-fp8": (IN_RANGE, one_short, FP8 + "memory_of_random_tables", (1, 2, 3, 96), False),
    "triton-mask-one-row-short-gate": (IN_RANGE, one_short, GATE + "gated_values", (2, 5, 4, 33)),
    "triton-modulus-truncates": ("rows:floor_mod", truncated_remainder,
                                 ROWS + "products_wrap_and_rows_of_negative_mixes_are_not_negative"),
    "triton-quotient-uncorrected": ("rows:floor_mod", uncorrected_quotient, REMAINDER),
    "triton-remainder-in-32-bits": ("rows:floor_mod", always_32_bits, REMAINDER),
    "triton-e4m3-480": ("dequantise:e4m3", nan_codes_are_480, PAIRS, False),
    "triton-zero-without-a-sign": ("dequantise:e4m3", zero_without_a_sign, PAIRS, False),
    "triton-e8m0-shift": ("dequantise:e8m0", shifted_scale, PAIRS, False),
    "triton-bf16-truncated": ("dequantise:round_bf16", truncated_bf16, PAIRS, True),
    "triton-bf16-ties-away": ("dequantise:round_bf16", ties_away_from_zero, PAIRS, True),
    "triton-bf16-rounds-nan": ("dequantise:round_bf16", rounded_nan, FP8 + "rounding_keeps_every_nan"),
    "triton-sign-for-copysign": ("gate:copysign_sqrt", signed_sqrt, EDGES),
    "triton-lt-for-copysign": ("gate:copysign_sqrt", negative_by_comparison,
                               GATE + "a_score_too_small_for_float32_keeps_its_sign"),
    "triton-clamp-missing": ("gate:copysign_sqrt", without_a_clamp, EDGES),
    "triton-clamp-hides-nan": ("gate:copysign_sqrt", nan_is_clamped, GATE + "nan_does_not_spread_to_other_branches"),
    "triton-sigmoid-steeper": ("gate:sigmoid", plain_sigmoid, EDGES),
}.items()}


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_caught(name, monkeypatch):
    mutant = MUTANTS[name]
    importlib.import_module(f"tests.{mutant.caught.split(':')[0]}")
    (original, _), (test, _) = resolve(mutant.target, "engram_ref"), resolve(mutant.caught, "tests")
    test(*mutant.arguments)
    replace_everywhere(monkeypatch, original, lambda *a: mutant.wrong(original, *a))
    with pytest.raises(AssertionError):
        test(*mutant.arguments)
