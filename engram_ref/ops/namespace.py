"""The namespace: every op under its public name. Ops call each other only through the namespace.

`NUMPY` is the definition; `engram_ref.ops` exports its names. A backend derives from `Ops`:

    Small    the definition with the backend's own small ops; no op bypasses another
    Steps    adds small ops that bypass others, such as a norm in one pass; used by a run with a trace
    Fused    adds whole compositions in one pass; used by a run without a trace
"""

import sys

from engram_ref.ops.updates import Updates

CONSTANTS = frozenset((
    "canonical_key", "canonical_map", "column_offsets", "frequencies", "half_split_order", "is_prime", "normalise",
    "pcg64_multipliers", "softmax_scale", "splitmix64_multipliers", "table_primes", "yarn_mscale",
))
"""Ops that compute constants of a configuration; every backend computes them with NumPy and Python."""

FIXED = CONSTANTS | {
    "DEAD", "as_array", "as_int64", "check_ids", "check_rows", "check_together", "constant", "dtype_name",
    "first_non_finite", "ignore", "to_numpy", "writable", "zeros",
}
"""Names that `backends.replace` does not accept: constants, and ops that inspect or convert arrays."""


class Ops(Updates):
    """All ops of the definition.

    backend   its name, as in engram_ref.backends.load
    small     the namespace of the same backend in which no op bypasses another
    steps     the namespace for a run with a trace
    """

    __slots__ = ()
    backend = "numpy"

    @property
    def small(self) -> "Ops":
        """The namespace in which no op bypasses another: this one, unless a backend overrides it."""
        return self

    @property
    def steps(self) -> "Ops":
        """The namespace for a run with a trace: this one, unless a backend overrides it."""
        return self

    def names(self) -> tuple[str, ...]:
        """Return the public names of all ops, in alphabetical order."""
        not_ops = ("backend", "names", "small", "steps")
        return tuple(name for name in dir(Ops) if not name.startswith("_") and name not in not_ops)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of the backend {self.backend}>"

    def __reduce__(self) -> str | tuple:
        """Pickle or copy a namespace as the global of its class's module if there is one, else as its class."""
        module = vars(sys.modules[type(self).__module__])
        return next((name for name, value in module.items() if value is self), (type(self), ()))


NUMPY = Ops()
