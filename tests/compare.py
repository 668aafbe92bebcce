"""The comparator that ships with the package, engram_ref/oracle/compare.py, with further classes for tests.

golden     floats recorded from an independent implementation in float64: within 1e-13 of the largest recorded
           magnitude, as stated in the file. The recorded module chains three sums of at most 36, 20 and 20 terms and a
           root that amplifies.
forms      one layer of attention in float64, computed in two orders as for `model`. The chain has one layer, so
           the project guarantees 1e-12 of the largest expected magnitude.
internals  a third-party float64 model whose norms, softmax, router and rotations compute in float32: `terms`
           roundings of u = 2^-24, counted by the caller, each relative to `scale`.

tests/bounds.py computes the scales of functions that amplify errors.
"""

from engram_ref.oracle import compare


def assert_close(name, expected, found, tolerance_class, terms=1, scale=None):
    """Raise AssertionError if the arrays differ by more than the class allows, relative to the scale."""
    bound = {"golden": 1e-13, "forms": 1e-12, "internals": terms * 2.0**-24}.get(tolerance_class)
    if bound is not None:
        tolerance_class, terms = "f64", bound / 2.0**-52 - 16           # which allows 2 (terms + 16) 2^-53
    compare.assert_close(name, expected, found, tolerance_class, terms, scale)
