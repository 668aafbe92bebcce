"""Addressing: compute the table rows that Engram reads for a text, from a configuration alone.

No weights are needed. Multipliers, primes and offsets follow from the configuration, and rows follow from canonical
ids. With a short history, processing a stream in chunks gives the same rows as processing it all at once.
"""

import functools
from collections.abc import Callable
from types import NoneType

import numpy as np

from engram_ref.checks import as_batch, as_ops, check_kind, check_kinds, check_shapes, integer
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
    """The constants of one configuration, and the rows computed from them.

    config        the dialect and its sizes
    vocabulary    the Vocabulary that the configuration names; may be omitted if its map ships with the package
    ops           the backend's namespace that computes rows
    canonical     int64 [V] read-only, canonical id of every raw id; None if raw ids are hashed
    multipliers   {layer id: int64 [N]}, newest token first
    primes        {layer id: int64 [C]}, rows of each column's table
    offsets       {layer id: int64 [C]}, first flat row of each column
    table_rows    {layer id: int}, rows of the stored flat table, padding included
    pad_id        canonical id that replaces hidden tokens if eos_id is None
    eos_id        canonical id that ends a document and replaces hidden tokens, or None

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
        tables = layouts(config)
        self.primes = {layer: layout.primes for layer, layout in tables.items()}
        self.offsets = {layer: layout.offsets for layer, layout in tables.items()}
        self.table_rows = {layer: layout.table_rows for layer, layout in tables.items()}
        self.multipliers = {layer: _multipliers(config, layer) for layer in config.layer_ids}

    def start(self, batch: int) -> np.ndarray:
        """Return the history at the start of a stream: int64 [batch, N-1], all -1."""
        return self.ops.as_array("history", self._empty_history(integer("batch", batch)))

    def rows(self, canonical_ids: np.ndarray, layer_id: int, history: np.ndarray | None = None,
             flat: bool = False, trace: Trace | None = None) -> np.ndarray:
        """Return the rows that each position reads in one layer.

        canonical_ids   int64 [B, T] or [T]; DEAD is allowed if the dialect has the barrier
        layer_id        one of the configuration's layers
        history         int64 [B, N-1] or [N-1], the preceding ids, oldest first; None at the start of a stream
        flat            add each column's offset, to get rows of the layer's flat table
        trace           records canonical_ids, windows, mix and rows (per column)
        returns         int64 [B, T, C] or [T, C]
        raises          InputError for invalid ids, shapes or dtypes, or an unknown layer
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
        """Return the same rows, in any namespace, from checked canonical ids [B, T] and history [B, N-1]."""
        return ops.address(ids, history, self.multipliers[layer_id], self.primes[layer_id],
                           self.offsets[layer_id] if flat else None, self.pad_id, self.eos_id, record)

    def rows_of_tokens(self, ids: np.ndarray, history: np.ndarray | None = None, flat: bool = False) -> np.ndarray:
        """Return the rows of every layer from raw ids.

        ids       int64 [B, T] raw; DEAD is allowed if the dialect has the barrier
        history   int64 [B, N-1] canonical, the preceding ids, oldest first; None at the start of a stream
        flat      add each column's offset
        returns   int64 [Y, B, T, C], layers in the order of the configuration
        raises    InputError for invalid ids, shapes or dtypes
        """
        check_kind("flat", flat, bool)
        ids = self.ops.as_int64("ids", ids)
        if ids.ndim != 2:
            raise InputError("ids", "shape [B, T]", f"shape {list(ids.shape)}")
        self.ops.check_ids(ids, self.config.vocab_size, self.config.dead_barrier)
        history = self._checked_history(history, ids, True)
        multipliers, primes, offsets = (np.stack(list(constants.values()))
                                        for constants in (self.multipliers, self.primes, self.offsets))
        return self.ops.address_layers(ids, self.canonical, history, multipliers, primes,
                                       offsets if flat else None, self.pad_id, self.eos_id)

    def advance(self, history: np.ndarray | None, canonical_ids: np.ndarray) -> np.ndarray:
        """Return the history after these ids, for the next chunk.

        The old history stays valid, so a caller that keeps it can roll back.

        history         int64 [B, N-1] or [N-1], or None at the start of a stream
        canonical_ids   int64 [B, T] or [T]
        returns         int64 [B, N-1] or [N-1]; DEAD marks are kept, since they hide older tokens in the next chunk too
        """
        ids, history, batched = self._checked(canonical_ids, history)
        following = self.ops.next_history(history, ids)
        return following if batched else following[0]

    def stepper(self, layer_id: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """Return a fast function for decode steps of one token, without the value checks of `rows`.

        layer_id   one of the configuration's layers
        returns    step(ids int64 [B], history int64 [B, N-1]) -> rows int64 [B, C], without offsets;
                   it checks shapes and dtypes but not values
        raises     InputError for an unknown layer
        """
        check_layer(self.config, layer_id)
        fast = self.ops.stepper(self.multipliers[layer_id], self.primes[layer_id], self.pad_id, self.eos_id)
        array = type(self.start(0))

        def step(ids: np.ndarray, history: np.ndarray) -> np.ndarray:
            try:
                if type(ids) is array is type(history):
                    return fast(ids, history)
            except InputError:                               # convert below, or raise an error that names the argument
                pass
            return fast(*self._step_arrays(ids, history))

        return step

    def _step_arrays(self, ids: object, history: object) -> tuple[np.ndarray, np.ndarray]:
        """Convert ids [B] and history [B, N-1] to the backend's int64 arrays."""
        ids, history = self.ops.as_int64("ids", ids), self.ops.as_int64("history", history)
        if ids.ndim != 1:
            raise InputError("ids", "shape [B]", f"shape {list(ids.shape)}")
        check_shapes(history=(history, (len(ids), self.config.max_ngram - 1)))
        return ids, history

    def _checked(self, canonical_ids: np.ndarray, history: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, bool]:
        """Return the checked ids [B, T] and history [B, N-1], and whether the ids had a batch axis."""
        ids = self.ops.as_int64("canonical_ids", canonical_ids)
        batched, batch = as_batch("canonical_ids", "T", ids)
        self.ops.check_ids(ids, self.config.canonical_size, self.config.dead_barrier, "canonical_ids")
        return batch, self._checked_history(history, batch, batched), batched

    def _empty_history(self, batch: int) -> np.ndarray:
        return np.full((batch, self.config.max_ngram - 1), DEAD, dtype=np.int64)

    def _checked_history(self, history: np.ndarray | None, ids: np.ndarray, batched: bool) -> np.ndarray:
        """Return the checked history [B, N-1]; None becomes the history at the start of a stream."""
        batch, span = len(ids), self.config.max_ngram - 1
        if history is None:
            return self.ops.constant(self._empty_history(batch), ids)
        history = self.ops.as_int64("history", history)
        expected = (batch, span) if batched else (span,)
        if history.shape != expected:
            raise InputError("history", f"shape {list(expected)}", f"shape {list(history.shape)}",
                             "pass the N-1 preceding ids")
        self.ops.check_together({"ids": ids, "history": history})
        self.ops.check_ids(history, self.config.canonical_size, True, "history")
        masked = history == DEAD
        if not self.config.dead_barrier and (masked[..., 1:] & ~masked[..., :-1]).any():
            raise InputError("history", "-1 only before the start of the stream", history.tolist(),
                             "this dialect has no DEAD mark")
        return history.reshape(batch, span)


@functools.cache
def addressing_of(config: EngramConfig) -> Addressing:
    """Return the Addressing of a configuration; it is computed once and shared, since its constants are read-only."""
    return Addressing(config)


def _canonical_map(config: EngramConfig, vocabulary: Vocabulary | None) -> np.ndarray | None:
    """Return the configuration's canonical map, or None for raw ids; raise unless the vocabulary matches."""
    if config.vocabulary is None:
        if vocabulary is not None:
            raise InputError("vocabulary", "None", vocabulary.name, f"{config.name} hashes raw ids")
        return None
    if vocabulary is None:
        if config.vocabulary not in KNOWN_VOCABULARIES:
            raise InputError("vocabulary", f"a Vocabulary named {config.vocabulary}", None,
                             f"pass one: only the maps of {' and '.join(KNOWN_VOCABULARIES)} are included")
        vocabulary = Vocabulary.load(config.vocabulary)
    elif config.vocabulary in KNOWN_VOCABULARIES:
        check_digest(config.vocabulary, vocabulary.canonical)
    if (vocabulary.size, vocabulary.canonical_size) != (config.vocab_size, config.canonical_size):
        raise InputError("vocab_size, canonical_size", f"{vocabulary.size} and {vocabulary.canonical_size}, as in "
                         f"{vocabulary.name}", f"{config.vocab_size} and {config.canonical_size}",
                         "adapt the configuration with vocabulary.configure(config)")
    return vocabulary.canonical


def _multipliers(config: EngramConfig, layer_id: int) -> np.ndarray:
    """Return explicit multipliers if the configuration has any, else literals if there are any, else generate them."""
    index = layer_id if config.seed_index == "layer_id" else module_order(config).index(layer_id)
    literals = MULTIPLIERS.get((config.multiplier_generator, config.seed, index, config.canonical_size), ())
    if config.multipliers is not None:
        values = np.array(config.multipliers[config.layer_ids.index(layer_id)], dtype=np.int64)
    elif len(literals) >= config.max_ngram:
        values = np.array(literals[: config.max_ngram], dtype=np.int64)
    else:
        generate = GENERATORS[config.multiplier_generator]
        values = generate(config.seed, index, config.max_ngram, config.canonical_size)
    return read_only(values)
