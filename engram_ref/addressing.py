"""Addressing: which table rows a text reads, from a configuration alone.

Nothing here needs weights. Multipliers, primes and offsets follow from the configuration, rows follow
from canonical ids, and a short history makes any cut of a stream give the rows of the whole.
"""

import functools
from collections.abc import Callable
from types import NoneType

import numpy as np

from engram_ref.checks import as_batch, as_ops, check_kind, check_kinds, integer
from engram_ref.config import EngramConfig, check_layer
from engram_ref.errors import InputError
from engram_ref.layout import layouts, module_order
from engram_ref.literals import MULTIPLIERS
from engram_ref.ops.canonical import DEAD
from engram_ref.ops.hashing import GENERATORS
from engram_ref.ops.namespace import NUMPY, Ops
from engram_ref.ops.record import Record
from engram_ref.readonly import ReadOnlyArrays, read_only
from engram_ref.text.maps import KNOWN_VOCABULARIES, check_digest
from engram_ref.text.vocabulary import Vocabulary
from engram_ref.trace import Trace


class Addressing(ReadOnlyArrays):
    """The constants of one configuration, and the rows they give.

    config        the dialect and its sizes
    vocabulary    a Vocabulary of another tokenizer; default: the configuration's own map
    ops           the backend's namespace that computes rows
    canonical     int64 [V] read-only, the canonical id of every raw id; None where raw ids are hashed
    multipliers   {layer id: int64 [N]}, newest token's first
    primes        {layer id: int64 [C]}, rows of each column's table
    offsets       {layer id: int64 [C]}, where each column starts in the flat table
    table_rows    {layer id: int}, rows of the flat table as stored, padding included
    pad_id        canonical id that replaces hidden tokens if eos_id is None
    eos_id        canonical id after which windows start afresh, and which replaces hidden tokens; or None

    >>> from engram_ref.presets import preset
    >>> addressing = Addressing(preset("deepseek-v4.1-flash"))
    >>> addressing.rows(np.array([0, 3]), layer_id=1)[:, :3]
    array([[ 5702652,  8393127,  7183165],
           [13136173,  1031422,  4294690]])
    """

    def __init__(self, config: EngramConfig, vocabulary: Vocabulary | None = None, *, ops: Ops = NUMPY):
        ops = as_ops(ops)
        check_kinds(config=(config, EngramConfig), vocabulary=(vocabulary, Vocabulary, NoneType))
        self.config, self.ops = config, ops
        self.canonical = canonical = _canonical_map(config, vocabulary)
        self.pad_id = config.pad_id if canonical is None else int(canonical[config.pad_id])
        self.eos_id = config.eos_id if canonical is None or config.eos_id is None else int(canonical[config.eos_id])
        self.primes = {layer: found.primes for layer, found in layouts(config).items()}
        self.offsets = {layer: found.offsets for layer, found in layouts(config).items()}
        self.table_rows = {layer: found.table_rows for layer, found in layouts(config).items()}
        self.multipliers = {layer: _multipliers(config, layer) for layer in config.layer_ids}

    def start(self, batch: int) -> np.ndarray:
        """The history of a stream that has not begun: int64 [batch, N-1] of -1."""
        return self.ops.as_array("history", self._unseen(integer("batch", batch)))

    def rows(self, canonical_ids: np.ndarray, layer_id: int, history: np.ndarray | None = None,
             flat: bool = False, trace: Trace | None = None) -> np.ndarray:
        """The rows that each position reads in one layer.

        canonical_ids   int64 [B, T] or [T]; DEAD where the dialect has the barrier
        layer_id        one of the configuration's layers
        history         int64 [B, N-1] or [N-1] ids before these, oldest first; None: the stream's start
        flat            add each column's offset: rows of the layer's one flat table
        trace           records canonical_ids, windows, mix and rows (per column)
        returns         int64 [B, T, C] or [T, C]
        raises          InputError for wrong ids, shapes, dtypes or an unknown layer
        """
        check_layer(self.config, layer_id)
        check_kinds(flat=(flat, bool), trace=(trace, Trace, NoneType))
        ids, history, batched = self._checked(canonical_ids, history)
        ops = as_ops(self.ops, trace is not None)
        record = ops.ignore if trace is None else trace.record
        record("canonical_ids", ids)
        rows = self.unchecked_rows(ids, history, layer_id, ops, record, flat)
        return rows if batched else rows[0]

    def unchecked_rows(self, ids: np.ndarray, history: np.ndarray, layer_id: int, ops: Ops, record: Record,
                       flat: bool = False) -> np.ndarray:
        """The same rows of arrays that were checked, in any namespace: what `rows` and the whole model compute.

        ids       int64 [B, T] canonical
        history   int64 [B, N-1]
        record    called with windows, mix and rows
        returns   int64 [B, T, C]
        """
        return ops.address(ids, history, self.multipliers[layer_id], self.primes[layer_id],
                           self.offsets[layer_id] if flat else None, self.pad_id, self.eos_id, record)

    def rows_of_tokens(self, ids: np.ndarray, history: np.ndarray | None = None, flat: bool = False) -> np.ndarray:
        """The rows of every layer, from raw ids, in one go.

        ids       int64 [B, T] raw, DEAD where the dialect has the barrier
        history   int64 [B, N-1] canonical ids before these, oldest first; None: the stream's start
        flat      add each column's offset
        returns   int64 [Y, B, T, C], layers as the configuration lists them
        raises    InputError for wrong ids, shapes or dtypes
        """
        check_kind("flat", flat, bool)
        ids = self.ops.as_int64("ids", ids)
        if ids.ndim != 2:
            raise InputError("ids", "shape [B, T]", list(ids.shape))
        self.ops.check_ids(ids, self.config.vocab_size, self.config.dead_barrier)
        history = self._checked_history(history, ids, True)
        multipliers, primes, offsets = (np.stack(list(constants.values()))
                                        for constants in (self.multipliers, self.primes, self.offsets))
        return self.ops.address_layers(ids, self.canonical, history, multipliers, primes,
                                       offsets if flat else None, self.pad_id, self.eos_id)

    def advance(self, history: np.ndarray | None, canonical_ids: np.ndarray) -> np.ndarray:
        """The history after these ids, for the next chunk.

        The old one stays valid, so a caller that keeps it can roll back.

        history         int64 [B, N-1] or [N-1], or None at the stream's start
        canonical_ids   int64 [B, T] or [T]
        returns         int64 [B, N-1] or [N-1]; DEAD marks are kept, so that they still latch
        """
        ids, history, batched = self._checked(canonical_ids, history)
        following = self.ops.next_history(history, ids)
        return following if batched else following[0]

    def stepper(self, layer_id: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """One-token decoding without the checks of `rows`, which are made here once.

        layer_id   one of the configuration's layers
        returns    step(ids int64 [B], history int64 [B, N-1]) -> rows int64 [B, C], without offsets
        raises     InputError for an unknown layer; `step` checks shapes and dtypes and trusts the values
        """
        check_layer(self.config, layer_id)
        fast = self.ops.stepper(self.multipliers[layer_id], self.primes[layer_id], self.pad_id, self.eos_id)
        array = type(self.start(0))

        def step(ids: np.ndarray, history: np.ndarray) -> np.ndarray:
            try:
                if type(ids) is array is type(history):
                    return fast(ids, history)
            except InputError:                               # wrong shapes or dtypes, which may be convertible
                pass
            return fast(*self._one_token(ids, history))

        return step

    def _one_token(self, ids: object, history: object) -> tuple[np.ndarray, np.ndarray]:
        """ids [B] and history [B, N-1] as the backend's int64 arrays."""
        ids, history = self.ops.as_int64("ids", ids), self.ops.as_int64("history", history)
        if ids.ndim != 1:
            raise InputError("ids", "shape [B]", list(ids.shape))
        if history.shape != (len(ids), self.config.max_ngram - 1):
            raise InputError("history", f"shape {[len(ids), self.config.max_ngram - 1]}", list(history.shape))
        return ids, history

    def _checked(self, canonical_ids: np.ndarray, history: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, bool]:
        """ids [B, T], history [B, N-1], and whether the caller's had a batch axis."""
        ids = self.ops.as_int64("canonical_ids", canonical_ids)
        batched, batch = as_batch("canonical_ids", "T", ids)
        self.ops.check_ids(ids, self.config.canonical_size, self.config.dead_barrier, "canonical_ids")
        return batch, self._checked_history(history, batch, batched), batched

    def _unseen(self, batch: int) -> np.ndarray:
        return np.full((batch, self.config.max_ngram - 1), DEAD, dtype=np.int64)

    def _checked_history(self, history: np.ndarray | None, ids: np.ndarray, batched: bool) -> np.ndarray:
        """history [B, N-1], that of a stream's start where there is none."""
        batch, span = len(ids), self.config.max_ngram - 1
        if history is None:
            return self.ops.constant(self._unseen(batch), ids)
        history = self.ops.as_int64("history", history)
        expected = (batch, span) if batched else (span,)
        if history.shape != expected:
            raise InputError("history", f"shape {list(expected)}, the N-1 ids before these", list(history.shape))
        self.ops.check_together({"ids": ids, "history": history})
        self.ops.check_ids(history, self.config.canonical_size, True, "history")
        masked = history == DEAD
        if not self.config.dead_barrier and (masked[..., 1:] & ~masked[..., :-1]).any():
            raise InputError("history", "-1 before the stream's start only", history.tolist(),
                             "this dialect has no DEAD mark")
        return history.reshape(batch, span)


@functools.cache
def addressing_of(config: EngramConfig) -> Addressing:
    """The Addressing of a configuration, made once: its constants cannot be written to."""
    return Addressing(config)


def _canonical_map(config: EngramConfig, vocabulary: Vocabulary | None) -> np.ndarray | None:
    """The map the configuration hashes through, checked to be that very map; None for raw ids."""
    if config.vocabulary is None:
        if vocabulary is not None:
            raise InputError("vocabulary", f"None: {config.name} hashes raw ids", vocabulary.name)
        return None
    if vocabulary is None:
        if config.vocabulary not in KNOWN_VOCABULARIES:
            raise InputError("vocabulary", f"the Vocabulary {config.vocabulary} as an argument", "none",
                             f"its map is needed; {' and '.join(KNOWN_VOCABULARIES)} come with this package")
        vocabulary = Vocabulary.load(config.vocabulary)
    elif config.vocabulary in KNOWN_VOCABULARIES:
        check_digest(config.vocabulary, vocabulary.canonical)
    if (vocabulary.size, vocabulary.canonical_size) != (config.vocab_size, config.canonical_size):
        raise InputError("vocab_size, canonical_size", f"{vocabulary.name}'s {vocabulary.size} and "
                         f"{vocabulary.canonical_size}", f"{config.vocab_size} and {config.canonical_size}",
                         "multipliers depend on them")
    return vocabulary.canonical


def _multipliers(config: EngramConfig, layer_id: int) -> np.ndarray:
    """The configuration's own if it has any, else those of literals.py, else the generator's."""
    index = layer_id if config.seed_index == "layer_id" else module_order(config).index(layer_id)
    written = MULTIPLIERS.get((config.multiplier_generator, config.seed, index, config.canonical_size), ())
    if config.multipliers is not None:
        chosen = np.array(config.multipliers[config.layer_ids.index(layer_id)], dtype=np.int64)
    elif len(written) >= config.max_ngram:
        chosen = np.array(written[: config.max_ngram], dtype=np.int64)
    else:
        generate = GENERATORS[config.multiplier_generator]
        chosen = generate(config.seed, index, config.max_ngram, config.canonical_size)
    return read_only(chosen)
