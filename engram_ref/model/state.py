"""DecodeState: what a model must remember of the text so far, in one object.

    attention   per layer the latents c_kv [B, S, r] and turned keys k_pe [B, S, dr]
    Engram      the canonical ids [B, S], and per Engram layer the normalised gated values [B, S, M, D]

A slot's index is its position, and row b has lengths[b] of them. A deployment keeps only the last N-1 ids
and the last (L-1)*dilation gated values; here all stay, so that a rollback can go back to the start.

A step writes its tokens into the arrays after each row's end, where nothing counts, and moves the lengths on
when all of it is done. Reading `caches` hands the arrays out: the next step then starts from copies, so what
a fork or anyone else holds never changes. Ops get the arrays themselves, and must not keep them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from engram_ref.checks import check_kind, integer
from engram_ref.errors import InputError
from engram_ref.ops.arrays import as_int64
from engram_ref.ops.namespace import Ops


class DecodeState:
    """The stream so far of every row of a batch.

    lengths   int64 [B], tokens seen by each row
    caches    name of the cache -> [B, S, ...], with S at least the longest row; {} at the start
    """

    def __init__(self, lengths: np.ndarray, caches: dict[str, np.ndarray] | None = None):
        self.caches = {} if caches is None else caches
        self.lengths = as_int64("lengths", lengths)
        if self.lengths.ndim != 1 or (self.lengths < 0).any():
            raise InputError("lengths", "int64 [B], at least 0", self.lengths.tolist())

    @classmethod
    def start(cls, batch: int) -> "DecodeState":
        """Nothing seen yet."""
        return cls(np.zeros(integer("batch", batch), dtype=np.int64))

    @property
    def batch(self) -> int:
        """B, rows of the batch."""
        return len(self.lengths)

    @property
    def caches(self) -> dict[str, np.ndarray]:
        """Name -> [B, S, ...]. The arrays are not written into from now on: the next step copies them."""
        if self._slots is not None:
            self.caches = {name: cache[:, : self._slots] for name, cache in self._arrays.items()}
        return self._arrays

    @caches.setter
    def caches(self, caches: dict[str, np.ndarray]) -> None:
        check_kind("caches", caches, dict)
        self._arrays = caches
        self._slots: int | None = None     # slots in use of arrays that nobody else holds; None if somebody may
        self._written = 0                  # slots of these arrays that a step has written, also one taken back

    def fork(self) -> "DecodeState":
        """An independent continuation from here. Both share what is stored until their next step."""
        return type(self)(self.lengths.copy(), dict(self.caches))

    def advance(self, counts: np.ndarray) -> None:
        """Each row has seen `counts` tokens more: int64 [B]."""
        self.lengths = self.lengths + counts

    def rollback(self, tokens: int | Sequence[int]) -> None:
        """Forget the newest tokens, as after rejected drafts.

        tokens   how many: one number for all rows, or one for each
        raises   InputError where a row has not seen that many, or the number is negative
        """
        back = whole_numbers("tokens", tokens, (self.batch,))
        wrong = np.flatnonzero((back < 0) | (back > self.lengths))
        if len(wrong):
            row = int(wrong[0])
            raise InputError("tokens", f"0 to {self.lengths[row]}, what row {row} has seen", int(back[row]))
        self.lengths = self.lengths - back

    def reorder(self, rows: Sequence[int]) -> None:
        """Make the batch of these rows, in this order; a row may come twice (beams) or not at all.

        raises   InputError for a row that is not there
        """
        index = whole_numbers("rows", rows, None)
        if index.ndim != 1 or ((index < 0) | (index >= self.batch)).any():
            raise InputError("rows", f"row numbers in [0, {self.batch})", index.tolist())
        self.lengths = self.lengths[index]
        self.caches = {name: cache[index.tolist()] for name, cache in self.caches.items()}

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copy: the slots in use, shared as in a fork."""
        return vars(self) | {"_arrays": dict(self.caches), "_slots": None}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(lengths={self.lengths!r}, caches={self.caches!r})"


class Caches:
    """The caches during one forward call; without a state nothing is stored, and the new tokens are all there is.

    state        the stream so far, or None
    shape        (B, T) of the new tokens
    parameters   of the model: while their gradients are recorded, nothing is written in place
    traced       whether the call has a trace. It may end the call at a stage with NaN, which must not stay in
                 the state, not even in unused slots: nothing is written in place
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
        ours = state is not None and state._slots is not None
        self.in_place = ours and self.writable and not traced
        self.place = ops.append if self.in_place else ops.place
        self._clear()

    def _clear(self) -> None:
        """Forget what is stored after the longest row, since attention reads it with weight 0, and 0 * NaN is NaN."""
        seen = int(self.lengths.max(initial=0))
        if not self.in_place:
            self.arrays = {name: cache[:, :seen] for name, cache in self.arrays.items()}
            return
        for cache in self.arrays.values():
            cache[:, seen : self.state._written] = 0

    def __enter__(self) -> "Caches":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        """Forget what a call that failed has written."""
        if kind is not None and self.in_place:
            for cache in self.state._arrays.values():
                for row, length in enumerate(self.lengths):
                    cache[row, length : length + self.T] = 0

    def last(self, name: str, like: np.ndarray, count: int, before: object) -> np.ndarray:
        """The last `count` entries of each row before the new ones: [B, count, ...]; `before` where there are fewer."""
        return self.ops.last(self.arrays.get(name, like[:, :0]), self.lengths, count, before)

    def add(self, name: str, new: np.ndarray) -> np.ndarray:
        """Store the new entries, [B, T, ...]; returns all of the cache up to the newest, [B, S, ...]."""
        if self.state is None:
            return new
        self.arrays[name] = self.place(self.arrays.get(name, new[:, :0]), new, self.lengths)
        return self.arrays[name][:, : self.slots]

    def commit(self, counts: np.ndarray) -> None:
        """Move the state on by `counts` tokens per row. Before this, it is as it was."""
        if self.state is not None:
            self.state.caches = self.arrays
            self.state._slots, self.state._written = self.slots if self.writable else None, self.slots
            self.state.advance(counts)

    def check(self, expected: dict[str, tuple[int, ...]], dtype: str) -> None:
        """Raise unless the caches are those of the model and at least as long as the state's lengths.

        expected   name -> shape of one slot; () for ids
        dtype      of the floats, by its name
        """
        B, seen = len(self.lengths), int(self.lengths.max(initial=0))
        for name in sorted(set(self.arrays) - set(expected)):
            raise InputError("state", f"the caches of this model: {', '.join(expected)}", f"a cache {name}")
        for name, tail in expected.items():
            cache = self.arrays.get(name)
            if cache is None:
                if seen:
                    raise InputError("state", f"a cache {name} with {seen} slots", "none")
                continue
            wanted, found = "int64" if tail == () else dtype, self.ops.dtype_name(cache)
            if cache.shape[0] != B or cache.shape[1] < seen or cache.shape[2:] != tail or found != wanted:
                raise InputError(f"state cache {name}", f"{wanted} [{B}, at least {seen}, *{list(tail)}]",
                                 f"{found} {list(cache.shape)}")


def whole_numbers(argument: str, values: object, shape: tuple[int, ...] | None) -> np.ndarray:
    """Values as int64, one number repeated if a shape asks for more; InputError for anything else."""
    array = as_int64(argument, values)
    if shape is not None and array.shape not in ((), shape):
        raise InputError(argument, f"one integer, or {list(shape)}", list(array.shape))
    return np.broadcast_to(array, array.shape if shape is None else shape)


def new_tokens(counts: object, batch: int, most: int) -> np.ndarray:
    """How many tokens each row gets, int64 [batch]; None means all. InputError outside 0 to `most`."""
    if counts is None:
        return np.full(batch, most, dtype=np.int64)
    array = whole_numbers("counts", counts, None)
    if array.shape != (batch,) or ((array < 0) | (array > most)).any():
        raise InputError("counts", f"{batch} numbers from 0 to {most}", array.tolist())
    return array
