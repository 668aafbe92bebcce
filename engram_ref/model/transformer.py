"""The whole model: token ids in, logits out.

    X = expand(E[ids]);   X = block_i(X) for every layer;   logits = RMSNorm(collapse(X)) W_head^T

With a state, the call goes on where the last one stopped, and any cut of a text gives the same logits.
"""

from collections.abc import Mapping, Sequence
from types import ModuleType, NoneType

import numpy as np

from engram_ref import ops as numpy_ops
from engram_ref.addressing import Addressing, addressing_of
from engram_ref.checks import as_ops, check_kinds
from engram_ref.errors import InputError
from engram_ref.model.block import Step, below, block, cache_shapes, under
from engram_ref.model.engram_parameters import as_parameters
from engram_ref.model.state import DecodeState, check_caches, new_tokens
from engram_ref.model.tree import check
from engram_ref.model_config import ModelConfig
from engram_ref.trace import Trace


def forward(parameters: Mapping[str, np.ndarray], ids: np.ndarray, config: ModelConfig, *,
            state: DecodeState | None = None, counts: Sequence[int] | None = None, dead: np.ndarray | None = None,
            absorbed: bool = False, addressing: Addressing | None = None, ops: ModuleType = numpy_ops,
            trace: Trace | None = None, check_values: bool = True) -> np.ndarray:
    """Logits of every new position.

    parameters     see engram_ref.model.parameters
    ids            int64 [B, T] or [T], raw token ids
    config         the model
    state          the stream so far, moved on by this call; None: the text starts here
    counts         how many of the T ids of each row are real, the others being padding on the right, whose
                   logits mean nothing; None: all. A row with 0 is finished and stays as it is
    dead           bool [B, T] or [T]: positions whose n-grams and gates are masked, where the dialect has that
    absorbed       compute attention in the absorbed form
    addressing     Addressing(config.engram, vocabulary), for a vocabulary that this package does not know
    ops            the backend's namespace
    trace          records every stage, with keys such as layers.1.engram.gate
    check_values   look at every parameter before starting
    returns        [B, T, V] or [T, V], the dtype of the parameters
    raises         InputError naming the argument that does not fit; the state is then as it was
    """
    ops = as_ops(ops, trace is not None)
    check_kinds(config=(config, ModelConfig), state=(state, DecodeState, NoneType), absorbed=(absorbed, bool),
                addressing=(addressing, Addressing, NoneType), trace=(trace, Trace, NoneType),
                check_values=(check_values, bool))
    ids, dead, batched = as_batch(ids, dead, ops)
    state = DecodeState.start(len(ids)) if state is None else state
    counts = check_call(ids, counts, dead, state, config, ops)
    addressing = addressing_for(config, addressing)
    working = state.fork()
    working.caches = {name: (ops.as_int64 if name == "canonical_ids" else ops.as_array)(f"state cache {name}", cache)
                      for name, cache in state.caches.items()}
    parameters = as_parameters(parameters, ops, {"ids": ids, "dead": dead, **{
        f"state cache {name}": cache for name, cache in working.caches.items()}})
    if check_values:
        check(parameters, config, ops)
    check_caches(working, cache_shapes(config), ops.dtype_name(parameters["embed.weight"]), ops)
    step = prepare(ids, dead, working, config, addressing, ops, absorbed)
    if trace is not None and config.engram is not None:
        trace.record("canonical_ids", step.canonical_ids)
    X = ops.expand(ops.embed(parameters["embed.weight"], ids), config.backbone.n_branches)
    for index in range(config.backbone.n_layers):
        X = block(below(parameters, f"layers.{index}"), X, index, step, under(trace, f"layers.{index}"))
    logits = head(parameters, X, config, ops, trace)
    keep(step, state, counts)
    return logits if batched else logits[0]


def as_batch(ids: np.ndarray, dead: np.ndarray | None,
             ops: ModuleType) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """ids and dead with a batch axis, and whether they came with one."""
    ids = ops.as_int64("ids", ids)
    if ids.ndim not in (1, 2):
        raise InputError("ids", "shape [B, T] or [T]", list(ids.shape))
    batched = ids.ndim == 2
    dead = None if dead is None else ops.as_array("dead", dead)
    return (ids, dead, True) if batched else (ids[None], None if dead is None else dead[None], False)


def check_call(ids: np.ndarray, counts: Sequence[int] | None, dead: np.ndarray | None, state: DecodeState,
               config: ModelConfig, ops: ModuleType) -> np.ndarray:
    """Refuse arguments that do not fit each other; returns counts, int64 [B]."""
    B, T = ids.shape
    known = config.backbone.vocab_size if config.engram is None else config.engram.vocab_size
    ops.check_ids(ids, known, False)
    if state.batch != B:
        raise InputError("state", f"{B} rows, as ids have", state.batch)
    if dead is not None:
        if dead.shape != ids.shape or ops.dtype_name(dead) != "bool":
            raise InputError("dead", f"bool {list(ids.shape)}", f"{ops.dtype_name(dead)} {list(dead.shape)}")
        if config.engram is None or not config.engram.dead_barrier:
            raise InputError("dead", "None: this model has no DEAD mark", "a mask")
    return new_tokens(counts, B, T)


def addressing_for(config: ModelConfig, given: Addressing | None) -> Addressing | None:
    """The Addressing of the model's Engram modules, the caller's if it belongs to them; None without modules."""
    if given is None:
        return None if config.engram is None else addressing_of(config.engram)
    if given.config != config.engram:
        raise InputError("addressing", "one made for config.engram", f"one made for {given.config.name}")
    return given


def prepare(ids: np.ndarray, dead: np.ndarray | None, state: DecodeState, config: ModelConfig,
            addressing: Addressing | None, ops: ModuleType, absorbed: bool) -> Step:
    """What all blocks share: positions, angles, canonical ids, addressing."""
    attention = config.backbone.attention
    positions = ops.constant(ops.positions_after(state.lengths, ids.shape[1]), ids)
    angle = ops.angles(positions, ops.frequencies(attention.qk_rope_head_dim, attention.rope_theta, attention.yarn))
    marked = ids if dead is None else ops.mark_dead(ids, dead)
    hashed = addressing is not None and addressing.canonical is not None
    canonical = ops.canonicalise(marked, addressing.canonical) if hashed else marked
    return Step(config, state, ops, angle, positions, canonical, dead, addressing, absorbed)


def head(parameters: Mapping[str, np.ndarray], X: np.ndarray, config: ModelConfig, ops: ModuleType,
         trace: Trace | None) -> np.ndarray:
    """Collapse the branches, normalise, project to the vocabulary: [B, T, M, D] -> [B, T, V]."""
    backbone = config.backbone
    record = ops.ignore if trace is None else trace.record
    form = "sum" if backbone.hyper is None else backbone.hyper.collapse
    x = ops.collapse(X, form, below(parameters, "head_hc"), backbone.rms_norm_eps)
    x = ops.rms_norm(x, parameters["norm.weight"], backbone.rms_norm_eps)
    record("final_norm", x)
    logits = ops.linear(x, parameters["embed.weight" if backbone.tie_embeddings else "head.weight"])
    record("logits", logits)
    return logits


def keep(step: Step, state: DecodeState, counts: np.ndarray) -> None:
    """Make the caller's state what the working copy became: nothing of it changes before this point."""
    if step.config.engram is not None:
        old = step.state.caches.get("canonical_ids", step.canonical_ids[:, :0])
        step.state.caches["canonical_ids"] = step.ops.place(old, step.canonical_ids, step.state.lengths)
    state.caches = step.state.caches
    state.advance(counts)
