"""The whole model: token ids in, logits out.

    X = expand(E[ids]);   X = block_i(X) for every layer;   logits = RMSNorm(collapse(X)) W_head^T

With a state, the call continues the stream, and the logits do not depend on how a text is split into calls.
"""

from collections.abc import Mapping, Sequence
from types import NoneType

import numpy as np

from engram_ref.addressing import Addressing, addressing_of
from engram_ref.checks import as_batch, as_ops, check_kinds
from engram_ref.errors import InputError
from engram_ref.model.block import Model, Step, block, by_module, cache_shapes, under
from engram_ref.model.engram_parameters import as_parameters
from engram_ref.model.state import Caches, DecodeState, new_tokens
from engram_ref.model.tree import check_converted
from engram_ref.model_config import ModelConfig
from engram_ref.ops.namespace import NUMPY, Ops
from engram_ref.trace import Trace


def forward(parameters: Mapping[str, np.ndarray], ids: np.ndarray, config: ModelConfig, *,
            state: DecodeState | None = None, counts: Sequence[int] | None = None, dead: np.ndarray | None = None,
            absorbed: bool = False, addressing: Addressing | None = None, ops: Ops = NUMPY,
            trace: Trace | None = None, check_values: bool = True) -> np.ndarray:
    """Logits of every new position.

    parameters     see engram_ref.model.parameters
    ids            int64 [B, T] or [T], raw token ids
    config         the model
    state          the stream so far, updated by this call; None: the text starts here
    counts         number of real ids per row; the rest of a row is padding on the right, and its logits are
                   meaningless. None: all T. The state of a row with count 0 does not change
    dead           bool [B, T] or [T]: positions whose n-grams and gates are masked, if the dialect supports this
    absorbed       compute attention in the absorbed form
    addressing     Addressing(config.engram, vocabulary), needed if this package does not include the vocabulary
    ops            the backend's namespace
    trace          records every stage, with keys such as layers.1.engram.gate
    check_values   check every parameter first
    returns        [B, T, V] or [T, V], the dtype of the parameters
    raises         InputError naming the invalid argument; the state is then unchanged
    """
    ops = as_ops(ops, trace is not None)
    check_kinds(config=(config, ModelConfig), state=(state, DecodeState, NoneType), absorbed=(absorbed, bool),
                addressing=(addressing, Addressing, NoneType), trace=(trace, Trace, NoneType),
                check_values=(check_values, bool))
    ids = ops.as_int64("ids", ids)
    dead = None if dead is None else ops.as_array("dead", dead)
    batched, ids, dead = as_batch("ids", "T", ids, dead)
    model = prepare_model(parameters, config, addressing, ops, {"ids": ids, "dead": dead}, check_values)
    logits = run(model, ids, state, counts, dead, absorbed, trace)
    return logits if batched else ops.take(logits, 0)


def prepare_model(parameters: Mapping[str, np.ndarray], config: ModelConfig, addressing: Addressing | None,
                  ops: Ops, others: Mapping[str, np.ndarray | None], check_values: bool = True) -> Model:
    """Convert, check and group the parameters of a model, once for any number of calls with the arrays `others`."""
    parameters = as_parameters(parameters, ops, others)
    if check_values:
        check_converted(parameters, config, ops)
    return Model(by_module(parameters), config, addressing_for(config, addressing), ops)


def run(model: Model, ids: np.ndarray, state: DecodeState | None, counts: Sequence[int] | None = None,
        dead: np.ndarray | None = None, absorbed: bool = False, trace: Trace | None = None) -> np.ndarray:
    """Logits of every new position, [B, T, V]; arguments as for forward, arrays of the backend with a batch axis."""
    config, ops, weights = model.config, model.ops, [x for arrays in model.modules.values() for x in arrays.values()]
    real = check_call(ids, counts, dead, state, config, ops)
    with Caches(state, ids.shape, weights, trace is not None, ops) as caches:
        ops.check_together({"ids": ids, **{f"state cache {name}": array for name, array in caches.arrays.items()}})
        caches.check(cache_shapes(config), ops.dtype_name(model.modules["embed"]["weight"]))
        step = prepare(model, ids, dead, caches, absorbed)
        if trace is not None and config.engram is not None:
            trace.record("canonical_ids", step.canonical_ids)
        X = ops.expand(ops.embed(model.modules["embed"]["weight"], ids), config.backbone.n_branches)
        for index in range(config.backbone.n_layers):
            X = block(X, index, step, under(trace, f"layers.{index}"))
        logits = head(model, X, trace)
        if config.engram is not None:
            caches.add("canonical_ids", step.canonical_ids)
        caches.commit(real)
    return logits


def check_call(ids: np.ndarray, counts: Sequence[int] | None, dead: np.ndarray | None, state: DecodeState | None,
               config: ModelConfig, ops: Ops) -> np.ndarray:
    """Raise InputError for invalid or inconsistent arguments; return counts, int64 [B]."""
    B, T = ids.shape
    vocab_size = config.backbone.vocab_size if config.engram is None else config.engram.vocab_size
    ops.check_ids(ids, vocab_size, False)
    if state is not None and state.batch != B:
        raise InputError("state", f"{B} rows, as in ids", f"{state.batch} rows")
    if dead is not None:
        if dead.shape != ids.shape or ops.dtype_name(dead) != "bool":
            raise InputError("dead", f"bool {list(ids.shape)}", f"{ops.dtype_name(dead)} {list(dead.shape)}")
        if config.engram is None or not config.engram.dead_barrier:
            raise InputError("dead", "None", "a mask", "this model has no DEAD mark")
    return new_tokens(counts, B, T)


def addressing_for(config: ModelConfig, given: Addressing | None) -> Addressing | None:
    """The Addressing of the model's Engram modules, None if it has none; InputError if `given` does not match them."""
    if given is None:
        return None if config.engram is None else addressing_of(config.engram)
    if given.config != config.engram:
        raise InputError("addressing", "an Addressing built from config.engram", f"one built from {given.config.name}")
    return given


def prepare(model: Model, ids: np.ndarray, dead: np.ndarray | None, caches: Caches, absorbed: bool) -> Step:
    """Compute the values that all blocks share: positions, angles, canonical ids and the ids that precede them."""
    attention, config, ops = model.config.backbone.attention, model.config.engram, model.ops
    positions = ops.constant(ops.positions_after(caches.lengths, ids.shape[1]), ids)
    angle = ops.angles(positions, ops.frequencies(attention.qk_rope_head_dim, attention.rope_theta, attention.yarn))
    canonical, history = ids if dead is None else ops.mark_dead(ids, dead), None
    if config is not None:
        if model.addressing.canonical is not None:
            canonical = ops.canonicalise(canonical, model.addressing.canonical)
        history = caches.last("canonical_ids", canonical, config.max_ngram - 1, ops.DEAD)
    return Step(model, caches, angle, positions, canonical, history, dead, absorbed)


def head(model: Model, X: np.ndarray, trace: Trace | None) -> np.ndarray:
    """Collapse the branches, normalise and project to the vocabulary: [B, T, M, D] -> [B, T, V]."""
    backbone, ops, modules = model.config.backbone, model.ops, model.modules
    record = ops.ignore if trace is None else trace.record
    form = "sum" if backbone.hyper is None else backbone.hyper.collapse
    x = ops.collapse(X, form, modules.get("head_hc", {}), backbone.rms_norm_eps)
    x = ops.rms_norm(x, modules["norm"]["weight"], backbone.rms_norm_eps)
    record("final_norm", x)
    logits = ops.linear(x, modules["embed" if backbone.tie_embeddings else "head"]["weight"])
    record("logits", logits)
    return logits
