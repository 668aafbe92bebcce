"""The one comparator of the tests: named tolerance classes, each derived, none chosen to pass.

exact   same shape and dtype kind, equal element by element (NaN equals NaN, -0.0 differs from 0.0)
f64     two float64 computations of the same formula in different orders. A sum of n products carries
        at most n roundings of u = 2^-53 relative to the sum of their absolute values (Higham, Accuracy
        and Stability, section 3.1), on either side; the elementwise functions around it add fewer than
        16 roundings and none amplifies: |difference| <= 2 (n + 16) u scale.
"""

import numpy as np

UNIT_ROUNDOFF = 2.0**-53


def assert_close(name, expected, actual, tolerance_class, terms=1, scale=None):
    """Fail with the worst element where `actual` is farther from `expected` than its class allows.

    terms   the length n of the longest sum on the way (class f64)
    scale   what roundings are relative to: the largest sum of absolute values on the way; by default the
            largest expected magnitude, right where nothing cancels below it
    """
    expected, actual = np.asarray(expected), np.asarray(actual)
    assert expected.shape == actual.shape, f"{name}: shape {actual.shape}, expected {expected.shape}"
    if tolerance_class == "exact":
        assert expected.dtype.kind == actual.dtype.kind, f"{name}: dtype {actual.dtype}, expected {expected.dtype}"
        same = (expected == actual) & (np.signbit(expected) == np.signbit(actual)) if expected.dtype.kind == "f" \
            else expected == actual
        same |= (expected != expected) & (actual != actual)
        error, allowed = np.where(same, 0.0, np.inf), 0.0
    elif tolerance_class == "f64":
        assert actual.dtype == np.float64, f"{name}: dtype {actual.dtype}, expected float64"
        scale = np.abs(expected).max(initial=0.0) if scale is None else scale
        error, allowed = np.abs(expected - actual), 2 * (terms + 16) * UNIT_ROUNDOFF * scale
    else:
        raise KeyError(tolerance_class)
    if not (error <= allowed).all():  # NaN fails too
        worst = np.unravel_index(np.argmax(np.nan_to_num(error, nan=np.inf)), error.shape)
        raise AssertionError(f"{name} [{tolerance_class}]: at {tuple(map(int, worst))} expected {expected[worst]!r}, "
                             f"found {actual[worst]!r}; allowed difference {allowed:.3g}")
