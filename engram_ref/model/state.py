"""DecodeState: what a model must remember of the text so far, in one object.

    attention   per layer the latents c_kv [B, S, r] and turned keys k_pe [B, S, dr]
    Engram      the canonical ids [B, S], and per Engram layer the normalised gated values [B, S, M, D]

A slot's index is its position, and row b has lengths[b] of them. A deployment keeps only the last N-1 ids
and the last (L-1)*dilation gated values; here all stay, so that a rollback can go back to the start.
Arrays are replaced, never written into: a fork shares them with its origin.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType

import numpy as np

from engram_ref.checks import check_kind, integer
from engram_ref.errors import InputError
from engram_ref.ops.arrays import as_int64


@dataclass
class DecodeState:
    """The stream so far of every row of a batch.

    lengths   int64 [B], tokens seen by each row
    caches    name of the cache -> [B, S, ...]
    """

    lengths: np.ndarray
    caches: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self):
        check_kind("caches", self.caches, dict)
        self.lengths = as_int64("lengths", self.lengths)
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

    def fork(self) -> "DecodeState":
        """An independent continuation from here: it shares what is stored, and changes nothing of it."""
        return replace(self, lengths=self.lengths.copy(), caches=dict(self.caches))

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


def check_caches(state: DecodeState, expected: dict[str, tuple[int, ...]], dtype: str, ops: ModuleType) -> None:
    """Refuse a state that has not stored what it claims to have seen, or that another model filled.

    expected   name -> shape of one slot; () for ids
    dtype      of the floats, by its name
    """
    seen = int(state.lengths.max(initial=0))
    for name in sorted(set(state.caches) - set(expected)):
        raise InputError("state", f"the caches of this model: {', '.join(expected)}", f"a cache {name}")
    for name, tail in expected.items():
        cache = state.caches.get(name)
        if cache is None:
            if seen:
                raise InputError("state", f"a cache {name} with {seen} slots", "none")
            continue
        wanted, found = "int64" if tail == () else dtype, ops.dtype_name(cache)
        if cache.shape[0] != state.batch or cache.shape[1] < seen or cache.shape[2:] != tail or found != wanted:
            raise InputError(f"state cache {name}", f"{wanted} [{state.batch}, at least {seen}, *{list(tail)}]",
                             f"{found} {list(cache.shape)}")
