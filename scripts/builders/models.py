"""Whole tiny models: oracle/slow/transformer.py computes the logits, the NumPy definition in float64 all stages."""

from dataclasses import replace
from unittest import mock

import numpy as np

from engram_ref.ops import DEAD
from engram_ref.oracle.slow import transformer
from engram_ref.oracle.slow.transformer import under
from engram_ref.presets import GATES
from scripts.builders.planned import case, rng_of
from scripts.builders.small_models import (
    DENSE,
    ENGRAM,
    FULL,
    MODELS,
    PLAIN,
    V2_EXPERTS,
    VOCABULARY,
    random_ids,
    random_model,
    slow_forward,
)
from scripts.builders.streams import (
    RAGGED,
    STEPS,
    columns_of,
    dead_of,
    history_of,
    stream_case,
    taps_of,
)

BARRED = {name: config for name, config in MODELS.items() if config.engram is not None and config.engram.dead_barrier}
"""The models that accept DEAD marks."""


def dialects():
    """Yield the full model with the gate of every dialect."""
    for name, gate in GATES.items():
        engram = replace(FULL.engram, name=f"{name}-gate", projection_bias=name == "demo", **gate)
        yield f"full-{name}", replace(FULL, name=f"full-{name}", engram=engram)


def models():
    """Yield cases for every model: a batch, one token, no tokens, two chunks; the absorbed form; DEAD positions."""
    for label, config in (*MODELS.items(), *dialects()):
        parameters = shared_with_full(random_model(config))
        dialect = config.engram.name if config.engram else ""
        shapes = (("batch", 2, 4, [4], "batch"), ("one-token", 1, 1, [1], "one-token short"),
                  ("empty", 2, 0, [0], "empty"), ("chunked", 1, 5, [3, 2], "chunked positions"),
                  ("absorbed", 1, 4, [2, 2], "absorbed chunked"))
        for title, B, T, chunks, flags in shapes if label in MODELS else (("batch", 2, 1, [1], "batch"),):
            if title in ("empty", "absorbed") and config not in (PLAIN, FULL):
                continue
            yield model_case(f"forward/{label}-{title}", parameters, random_ids(config, B, T), None, config, chunks,
                             f"dialect {flags}" if dialect else flags, dialect)
        if label in BARRED:
            dead = rng_of(f"forward/{label}-dead").random((1, 5)) < 0.4
            yield model_case(f"forward/{label}-dead", parameters, random_ids(config, 1, 5), dead, config, [3, 2],
                             "dead chunked", dialect)


def routers():
    """Yield plain models with DeepSeek-V2's router, with a bias far above the scores, and with scores of exactly 0."""
    v2 = replace(PLAIN, name="v2-router", backbone=replace(PLAIN.backbone, experts=V2_EXPERTS))
    ids = random_ids(PLAIN, 1, 6)
    yield model_case("forward/v2-router", shared_with_full(random_model(v2)), ids, None, v2, [6], "groups", "")
    for title, size in (("large-bias", 6.0), ("zero-scores", 1e4)):      # about half the tokens have negative logits
        p, rng = random_model(PLAIN), rng_of(title)
        for name in [name for name in p if name.endswith("gate.weight")]:
            E, D = p[name].shape
            direction, spread = rng.standard_normal(D), np.arange(E)
            p |= {name: size / np.linalg.norm(direction) * np.outer(1 + 0.1 * spread, direction),
                  name.replace("weight", "bias"): 1e6 * (1 + spread)}
        yield model_case(f"forward/{title}", shared_with_full(p), ids, None, PLAIN, [6], "bias faint-scores", "")


def streams():
    """Yield streams with Engram and DEAD marks, with a convolution of two taps and EOS, and without Engram."""
    titles_by_model = {FULL: ("one-by-one", "one-by-one-dead", "ragged"), PLAIN: ("reorder", "drafts"),
                       DENSE: ("one-by-one", "rollback", "fork", "microbatches", "drafts", "beams")}
    for config, titles in titles_by_model.items():
        p, engram = shared_with_full(random_model(config)), config.engram
        for title in titles:
            flags, steps = (STEPS | RAGGED)[title]
            name, shape = f"forward_stream/{config.name}-{title}", (2, columns_of(steps))
            ids = rng_of(name).integers(0, VOCABULARY, shape)
            if engram and engram.eos_id is not None:
                ids[rng_of(f"{name} ends").random(shape) < 0.2] = engram.eos_id
            dead = dead_of(name, shape) if title in ("one-by-one-dead", "ragged") else None
            yield stream_case(name, "logits", 2, steps, slow_stream, {"ids": ids, "dead": dead}, f"positions {flags}",
                states_of(config), dialect=engram.name if engram else "", parameters=p, config=config,
                absorbed=title == "drafts")


def states_of(config):
    """Return the names of the states of a model."""
    kinds = ("history", "taps") if config.engram and config.engram.conv_kernel else ("history",)
    layers = [i for i in range(config.backbone.n_layers) if config.engram_layer(i) is not None]
    return [f"layers.{i}.{kind}" for i in layers for kind in kinds]


def slow_stream(parameters, ids, config, dead, steps, absorbed):
    """Return the logits of one text and the states after it; the gated values are recorded inside the slow model."""
    states, layers, original = {}, iter(states_of(config)), transformer.engram

    def recorded(p, residual, memory, marks, c):
        canonical = [DEAD if mark else i for i, mark in zip(ids[0].tolist(), marks, strict=True)]
        states[next(layers)] = history_of(canonical, config.engram)
        if c["dilation"] is not None:
            name = next(layers)
            gated = original(p, residual, memory, marks, c | {"dilation": None})
            states[name] = taps_of(under(parameters, name.replace("taps", "engram")), gated, config.engram)
        return original(p, residual, memory, marks, c)

    with mock.patch.object(transformer, "engram", recorded):
        return slow_forward(parameters, ids, config, dead)[0], states


def shared_with_full(parameters):
    """Replace arrays with the full model's if the shapes agree, so that each is stored once."""
    full = random_model(FULL)
    fits = lambda name, array: array.dtype == np.float64 and np.shape(full.get(name)) == array.shape
    return {name: full[name] if fits(name, array) else array for name, array in parameters.items()}


def model_case(name, parameters, ids, dead, config, chunks, flags, dialect):
    return case(name, outputs=("logits",), traced=True, slow=slow_logits, flags=flags, dialect=dialect,
                parameters=parameters, ids=ids, dead=dead, config=config, chunks=chunks, absorbed="absorbed" in flags)


def slow_logits(parameters, ids, dead, config, chunks, absorbed):
    """Return the logits of the last chunk; the slow model processes the whole text at once."""
    return slow_forward(parameters, ids, config, dead)[:, ids.shape[1] - chunks[-1] :]


def invalid():
    """Yield raw ids that the model must refuse: past the vocabulary, and -1."""
    for title, wrong in (("id-past-the-end", VOCABULARY), ("id-below-zero", DEAD)):
        yield case(f"forward/{title}", outputs=(), flags="out-of-range", dialect=ENGRAM.name, config=DENSE,
                   parameters=shared_with_full(random_model(DENSE)), ids=np.array([[3, wrong]]), dead=None, chunks=[2],
                   absorbed=False)


AREA = (models, routers, streams, invalid)
