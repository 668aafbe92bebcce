"""DecodeState: the caches of a model between calls.

    attention   per layer the latents c_kv [B, S, r] and rotated keys k_pe [B, S, dr]
    Engram      the canonical ids [B, S], and per Engram layer the normalised gated values [B, S, M, D]

The slot index is the position; row b uses the first lengths[b] slots. A deployment keeps only the last N-1 ids
and the last (L-1)*dilation gated values; this class keeps all of them, so that a rollback can go back to the start.

A step writes its tokens into the unused slots after the end of each row and updates the lengths once it has
succeeded. After `caches` has been read, the next step works on copies, so arrays held by a fork or a caller
never change. Ops receive the arrays themselves and must not keep references to them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from engram_ref.checks import check_kind, integer
from engram_ref.errors import InputError
from engram_ref.ops.arrays import as_int64
from engram_ref.ops.namespace import Ops


class DecodeState:
    """The caches of a stream, for each row of a batch.

    lengths   int64 [B], tokens per row
    caches    name of the cache -> [B, S, ...], with S at least the largest length; {} at the start
    """

    def __init__(self, lengths: np.ndarray, caches: dict[str, np.ndarray] | None = None):
        self.caches = {} if caches is None else caches
        self.lengths = as_int64("lengths", lengths)
        if self.lengths.ndim != 1 or (self.lengths < 0).any():
            raise InputError("lengths", "int64 [B] without negative values", self.lengths.tolist())

    @classmethod
    def start(cls, batch: int) -> "DecodeState":
        """Return an empty state for `batch` rows."""
        return cls(np.zeros(integer("batch", batch), dtype=np.int64))

    @property
    def batch(self) -> int:
        """B, the number of rows."""
        return len(self.lengths)

    @property
    def caches(self) -> dict[str, np.ndarray]:
        """Name -> [B, S, ...]. Once read, these arrays are never written to again: the next step copies them."""
        if self._slots is not None:
            self.caches = {name: cache[:, : self._slots] for name, cache in self._arrays.items()}
        return self._arrays

    @caches.setter
    def caches(self, caches: dict[str, np.ndarray]) -> None:
        check_kind("caches", caches, dict)
        self._arrays = caches
        self._slots: int | None = None     # slots in use; None if a caller may hold the arrays
        self._written = 0                  # slots that any step has written, including rolled-back steps

    def fork(self) -> "DecodeState":
        """Return an independent copy of the state; the two share their arrays until the next step of either."""
        return type(self)(self.lengths.copy(), dict(self.caches))

    def advance(self, counts: np.ndarray) -> None:
        """Add `counts`, int64 [B], to the lengths."""
        self.lengths = self.lengths + counts

    def rollback(self, tokens: int | Sequence[int]) -> None:
        """Remove the newest tokens, for example rejected drafts.

        tokens   number to remove: one for all rows, or one per row
        raises   InputError if a number is negative or larger than the row's length
        """
        back = as_integers("tokens", tokens, (self.batch,))
        wrong = np.flatnonzero((back < 0) | (back > self.lengths))
        if len(wrong):
            row = int(wrong[0])
            raise InputError("tokens", f"an integer from 0 to {self.lengths[row]}, the length of row {row}",
                             int(back[row]))
        self.lengths = self.lengths - back

    def reorder(self, rows: Sequence[int]) -> None:
        """Select rows of the batch, in this order; a row may be selected several times (beams) or not at all."""
        index = as_integers("rows", rows, None)
        if index.ndim != 1 or ((index < 0) | (index >= self.batch)).any():
            raise InputError("rows", f"row indices in [0, {self.batch})", index.tolist())
        self.lengths = self.lengths[index]
        self.caches = {name: cache[index.tolist()] for name, cache in self.caches.items()}

    def __getstate__(self) -> dict[str, Any]:
        """Return the slots in use, shared as in a fork (for pickle and copy)."""
        return vars(self) | {"_arrays": dict(self.caches), "_slots": None}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(lengths={self.lengths!r}, caches={self.caches!r})"


class Caches:
    """The caches during one forward call. Without a state, they contain only the new tokens, and nothing is stored.

    state        the stream so far, or None
    shape        (B, T) of the new tokens
    parameters   the model's; nothing is written in place while their gradients are recorded
    traced       whether the call has a trace. Then nothing is written in place either: check_finite may stop the
                 call at a stage with NaN, which must not remain in the state, not even in unused slots
    """

    def __init__(self, state: DecodeState | None, shape: tuple[int, int], parameters: Sequence[np.ndarray],
                 traced: bool, ops: Ops):
        self.state, self.ops = state, ops
        self.lengths = np.zeros(shape[0], dtype=np.int64) if state is None else state.lengths
        self.T = shape[1]
        self.slots = int(self.lengths.max(initial=0)) + self.T               # in use after this call
        self.arrays = {} if state is None else {
            name: (ops.as_int64 if name == "canonical_ids" else ops.as_array)(f"state cache {name}", cache)
            for name, cache in state._arrays.items()}
        self.writable = ops.writable([*parameters, *self.arrays.values()])
        exclusive = state is not None and state._slots is not None
        self.in_place = exclusive and self.writable and not traced
        self.place = ops.append if self.in_place else ops.place
        self._clear()

    def _clear(self) -> None:
        """Clear the slots after the longest row: attention multiplies them by 0, and 0 * NaN is NaN."""
        longest = int(self.lengths.max(initial=0))
        if not self.in_place:
            self.arrays = {name: cache[:, :longest] for name, cache in self.arrays.items()}
            return
        for cache in self.arrays.values():
            cache[:, longest : self.state._written] = 0

    def __enter__(self) -> "Caches":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        """Clear the slots that a failed call has written."""
        if kind is not None and self.in_place:
            for cache in self.state._arrays.values():
                for row, length in enumerate(self.lengths):
                    cache[row, length : length + self.T] = 0

    def last(self, name: str, like: np.ndarray, count: int, before: object) -> np.ndarray:
        """The last `count` entries of each row before the new ones, [B, count, ...], left-padded with `before`."""
        return self.ops.last(self.arrays.get(name, self.ops.tail(like, 0)), self.lengths, count, before)

    def add(self, name: str, new: np.ndarray) -> np.ndarray:
        """Store the new entries, [B, T, ...], and return the cache including them, [B, S, ...]."""
        if self.state is None:
            return new
        self.arrays[name] = self.place(self.arrays.get(name, new[:, :0]), new, self.lengths)
        return self.arrays[name][:, : self.slots]

    def commit(self, counts: np.ndarray) -> None:
        """Store the caches in the state and add `counts` to its lengths. Until then the state is unchanged."""
        if self.state is not None:
            self.state.caches = self.arrays
            self.state._slots, self.state._written = self.slots if self.writable else None, self.slots
            self.state.advance(counts)

    def check(self, expected: dict[str, tuple[int, ...]], dtype: str) -> None:
        """Raise unless the caches match the model: {name: shape of one slot, () for ids} and the floats' dtype."""
        B, longest = len(self.lengths), int(self.lengths.max(initial=0))
        for name in sorted(set(self.arrays) - set(expected)):
            raise InputError("state", f"only the caches of this model, {', '.join(expected)}", f"a cache named {name}")
        for name, tail in expected.items():
            cache = self.arrays.get(name)
            if cache is None:
                if longest:
                    raise InputError("state", f"a cache named {name} with {longest} slots", "none")
                continue
            wanted, actual = "int64" if tail == () else dtype, self.ops.dtype_name(cache)
            if cache.shape[0] != B or cache.shape[1] < longest or cache.shape[2:] != tail or actual != wanted:
                raise InputError(f"state cache {name}", f"{wanted} [{B}, at least {longest}, *{list(tail)}]",
                                 f"{actual} {list(cache.shape)}")


def as_integers(argument: str, values: object, shape: tuple[int, ...] | None) -> np.ndarray:
    """Values as int64, a scalar broadcast to `shape`; InputError for other types or shapes."""
    array = as_int64(argument, values)
    if shape is not None and array.shape not in ((), shape):
        raise InputError(argument, f"an integer or an array of shape {list(shape)}", f"shape {list(array.shape)}")
    return np.broadcast_to(array, array.shape if shape is None else shape)


def new_tokens(counts: object, batch: int, most: int) -> np.ndarray:
    """Number of new tokens per row, int64 [batch]; None means `most` each. InputError if one is out of range."""
    if counts is None:
        return np.full(batch, most, dtype=np.int64)
    array = as_integers("counts", counts, None)
    if array.shape != (batch,) or ((array < 0) | (array > most)).any():
        raise InputError("counts", f"{batch} integers from 0 to {most}", array.tolist())
    return array
