"""DecodeState: what a model must remember of the text so far, in one object.

    attention   per layer the latents c_kv [B, S, r] and turned keys k_pe [B, S, dr]
    Engram      the canonical ids [B, S], and per Engram layer the normalised gated values [B, S, M, D]

A slot's index is its position, and row b has lengths[b] of them. A deployment keeps only the last N-1 ids
and the last (L-1)*dilation gated values; here all stay, so that a rollback can go back to the start.
Arrays are replaced, never written into: a fork shares them with its origin.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from engram_ref.errors import InputError


@dataclass
class DecodeState:
    """The stream so far of every row of a batch.

    lengths   int64 [B], tokens seen by each row
    caches    name of the cache -> [B, S, ...]
    """

    lengths: np.ndarray
    caches: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def start(cls, batch: int) -> "DecodeState":
        """Nothing seen yet."""
        return cls(np.zeros(batch, dtype=np.int64))

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
        back = np.broadcast_to(np.asarray(tokens, dtype=np.int64), self.lengths.shape)
        wrong = np.flatnonzero((back < 0) | (back > self.lengths))
        if len(wrong):
            row = int(wrong[0])
            raise InputError("tokens", f"0 to {self.lengths[row]}, what row {row} has seen", int(back[row]))
        self.lengths = self.lengths - back

    def reorder(self, rows: Sequence[int]) -> None:
        """Make the batch of these rows, in this order; a row may come twice (beams) or not at all.

        raises   InputError for a row that is not there
        """
        index = np.asarray(rows, dtype=np.int64)
        if index.ndim != 1 or ((index < 0) | (index >= self.batch)).any():
            raise InputError("rows", f"row numbers in [0, {self.batch})", index.tolist())
        self.lengths = self.lengths[index]
        self.caches = {name: cache[index] for name, cache in self.caches.items()}
