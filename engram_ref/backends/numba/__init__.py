"""The hot loops, compiled by Numba; everything else is the definition's own.

The names of this module are those of its namespace, `NAMESPACE`: pass either as ops= to `engram`, `forward` or
`Addressing`. Kernels are compiled at their first call, a second or so each, unless ENGRAM_REF_JIT_CACHE names a folder
where compiled ones are kept. They use every core unless `threads(n)` says otherwise; the answer has the same bits with
any number.
"""

from engram_ref.packages import package_error

try:
    import numba  # noqa: F401
except Exception as error:
    raise package_error(error, "numba", "backend numba", otherwise="the NumPy backend works without it") from error

from engram_ref.backends.numba.namespace import FUSED as NAMESPACE

__all__ = ["thread_count", "threads", *NAMESPACE.names()]
globals().update({name: getattr(NAMESPACE, name) for name in __all__})
