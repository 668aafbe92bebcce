"""All ops: those with hot loops are compiled by Numba, the rest are taken from the definition (NumPy).

The module has the same names as its namespace, `NAMESPACE`: pass either as ops= to `engram`, `forward` or `Addressing`.
Each kernel is compiled on its first call, which takes about a second; if ENGRAM_REF_JIT_CACHE names a folder, compiled
kernels are stored there and reused. Kernels use every core unless `threads(n)` sets a different number; the results are
bit-identical for any number of threads.
"""

from engram_ref.packages import package_error

try:
    import numba  # noqa: F401
except Exception as error:
    raise package_error(error, "numba", "backend numba", otherwise="the NumPy backend works without it") from error

from engram_ref.backends.numba.namespace import FUSED as NAMESPACE

__all__ = ["thread_count", "threads", *NAMESPACE.names()]
globals().update({name: getattr(NAMESPACE, name) for name in __all__})
