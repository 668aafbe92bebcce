"""The namespace: every op under its public name, each call of an op by another going through it.

`NUMPY` is the definition itself; `engram_ref.ops` exports its names. A backend derives from `Ops`:

    Small    the definition with the backend's own small ops; no op hides another
    Steps    also small ops that hide others, such as a norm in one pass; what a run with a trace calls
    Fused    also whole compositions in one pass; what a run without a trace calls
"""

import sys

from engram_ref.ops.branches import Branches

CONSTANTS = frozenset((
    "canonical_key", "canonical_map", "column_offsets", "frequencies", "half_split_order", "is_prime", "normalise",
    "pcg64_multipliers", "softmax_scale", "splitmix64_multipliers", "table_primes", "yarn_mscale",
))
"""Ops that make constants of a configuration: by NumPy and Python in every backend."""

FIXED = CONSTANTS | {
    "DEAD", "as_array", "as_int64", "check_ids", "check_rows", "check_together", "constant", "dtype_name",
    "first_non_finite", "ignore", "to_numpy", "writable", "zeros",
}
"""What `backends.replace` leaves as it is: constants, and ops that look at arrays or bring them to the others."""


class Ops(Branches):
    """All ops, as the definition has them.

    backend   its name, as engram_ref.backends.load takes it
    small     the namespace of the same backend in which no op hides another
    steps     the one that a run with a trace uses
    """

    __slots__ = ()
    backend = "numpy"

    @property
    def small(self) -> "Ops":
        """Itself, unless a backend has ops that hide others."""
        return self

    @property
    def steps(self) -> "Ops":
        """Itself, unless a backend fuses compositions."""
        return self

    def names(self) -> tuple[str, ...]:
        """The public names of all ops, in alphabetical order."""
        others = ("backend", "names", "small", "steps")
        return tuple(name for name in dir(Ops) if not name.startswith("_") and name not in others)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of the backend {self.backend}>"

    def __reduce__(self) -> str | tuple:
        """For pickle and copy: a namespace is stored by its name in the file of its class, or else by its class."""
        file = vars(sys.modules[type(self).__module__])
        return next((name for name, value in file.items() if value is self), (type(self), ()))


NUMPY = Ops()
