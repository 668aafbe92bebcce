"""The one comparator of the tests: named tolerance classes, each derived, none chosen to pass.

exact    same shape and dtype kind, equal element by element (NaN equals NaN, -0.0 differs from 0.0)
f64      two float64 computations of the same formula in different orders. A sum of n products carries
         at most n roundings of u = 2^-53 relative to the sum of their absolute values (Higham, Accuracy
         and Stability, section 3.1), on either side; the elementwise functions around it add fewer than
         16 roundings and none amplifies: |difference| <= 2 (n + 16) u scale.
f32      a float32 computation against a float64 one of the same float32 inputs. The same bound with
         u = 2^-24. Only one side rounds noticeably, so the factor 2 leaves n + 32 roundings of elementwise
         functions: room for NumPy's float32 exp, which is within 4 units in the last place.
golden   floats recorded from an implementation written by others, in float64: within 1e-13 of the largest
         recorded magnitude, as the file promises. That is f64 with n = 434 at the scale of the result;
         the recorded module chains three sums of at most 36, 20 and 20 terms and a root that amplifies.
model    one whole float64 model computed in two orders: in one go and in chunks, expanded and absorbed,
         ours and the slow one. Every stage keeps to f64, but what a chain of norms, softmaxes and sites
         makes of a rounding has no bound that is both simple and useful. The project's promise is 1e-10 of
         the largest expected magnitude: it leaves a factor of 1e10 u^-1 = 9e5 for the chain, of which the
         models of tests/cases_backbone.py use less than 100; the least wrong variant is off by far more.
forms    one layer of attention in float64, computed in two orders: expanded and absorbed, in one go and in
         chunks, ours and the slow one. Like `model`, with one layer's chain instead of a whole model's: the
         project's promise is 1e-12 of the largest expected magnitude.
internals  a float64 model of others whose norms, softmax, router and rotations compute in float32: `terms`
         roundings of u = 2^-24 on the way, counted in tests/bounds_backbone.py, each relative to `scale`.

Where a function does amplify, the scale says by how much: see tests/bounds.py.
"""

import numpy as np

UNIT_ROUNDOFF = {"f64": 2.0**-53, "f32": 2.0**-24}
COMPUTED_IN = {"f64": np.float64, "f32": np.float32, "golden": np.float64, "model": np.float64, "forms": np.float64,
               "internals": np.float64}
PROMISE = {"golden": 1e-13, "forms": 1e-12, "model": 1e-10}


def assert_close(name, expected, actual, tolerance_class, terms=1, scale=None):
    """Fail with the worst element where `actual` is farther from `expected` than its class allows.

    terms   the length n of the longest sum on the way (classes f64 and f32); roundings (class internals)
    scale   what roundings are relative to, a number or one per element: the largest sum of absolute values
            on the way; by default the largest expected magnitude, right where nothing cancels below it
    """
    expected, actual = np.asarray(expected), np.asarray(actual)
    assert expected.shape == actual.shape, f"{name}: shape {actual.shape}, expected {expected.shape}"
    if tolerance_class == "exact":
        assert expected.dtype.kind == actual.dtype.kind, f"{name}: dtype {actual.dtype}, expected {expected.dtype}"
        error, allowed = np.where(same(expected, actual), 0.0, np.inf), 0.0
    else:
        dtype = COMPUTED_IN[tolerance_class]
        assert actual.dtype == dtype, f"{name}: dtype {actual.dtype}, expected {np.dtype(dtype)}"
        error = np.abs(expected - actual.astype(np.float64))
        allowed = allowance(expected, tolerance_class, terms, scale)
    allowed = np.broadcast_to(allowed, error.shape)
    if not (error <= allowed).all():  # NaN fails too
        excess = np.nan_to_num(error - allowed, nan=np.inf)
        worst = np.unravel_index(np.argmax(excess), error.shape)
        raise AssertionError(f"{name} [{tolerance_class}]: at {tuple(map(int, worst))} expected {expected[worst]!r}, "
                             f"found {actual[worst]!r}; allowed difference {allowed[worst]:.3g}")


def same(expected, actual):
    """Equal in value and, for floats, in the sign of zero; NaN is the same as NaN."""
    if expected.dtype.kind != "f":
        return expected == actual
    equal = (expected == actual) & (np.signbit(expected) == np.signbit(actual))
    return equal | (np.isnan(expected) & np.isnan(actual))


def allowance(expected, tolerance_class, terms, scale):
    """The largest difference that the class lets pass: a number, or one per element."""
    scale = np.abs(expected).max(initial=0.0) if scale is None else scale
    if tolerance_class in PROMISE:
        return PROMISE[tolerance_class] * scale
    if tolerance_class == "internals":
        return terms * UNIT_ROUNDOFF["f32"] * scale
    return 2 * (terms + 16) * UNIT_ROUNDOFF[tolerance_class] * scale
