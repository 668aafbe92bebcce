"""Whole tiny models: oracle/slow/transformer.py computes the logits, the NumPy definition in float64 all stages."""

from dataclasses import replace

import numpy as np

from engram_ref.oracle.small_models import (
    DENSE,
    FULL,
    MODELS,
    PLAIN,
    V2_EXPERTS,
    VOCABULARY,
    random_ids,
    random_model,
    slow_forward,
)
from engram_ref.presets import GATES
from scripts.builders.planned import case, rng_of
from scripts.builders.streams import RAGGED, STEPS, columns_of, dead_of, stream_case

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
        for title, B, T, chunks, flags in shapes if label in MODELS else shapes[:1]:
            yield model_case(f"forward/{label}-{title}", parameters, random_ids(config, B, T), None, config, chunks,
                             f"dialect {flags}", dialect)
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
    titles_by_model = {FULL: STEPS | RAGGED, DENSE: ("one-by-one", "fork", "drafts"), PLAIN: ("reorder", "drafts")}
    for config, titles in titles_by_model.items():
        p, engram = shared_with_full(random_model(config)), config.engram
        for title in titles:
            flags, steps = (STEPS | RAGGED)[title]
            name, shape = f"forward_stream/{config.name}-{title}", (2, columns_of(steps))
            ids = rng_of(name).integers(0, VOCABULARY, shape)
            if engram and engram.eos_id is not None:
                ids[rng_of(f"{name} ends").random(shape) < 0.2] = engram.eos_id
            yield stream_case(name, "logits", 2, steps, lambda parameters, ids, config, dead, **_: slow_forward(
                parameters, ids, config, dead)[0],
                {"ids": ids, "dead": dead_of(name, engram, shape) if engram else None}, f"positions {flags}",
                kind="model", dialect=engram.name if engram else "", parameters=p, config=config,
                absorbed=title == "drafts")


def shared_with_full(parameters):
    """Replace arrays with the full model's if the shapes agree, so that each is stored once."""
    full = random_model(FULL)
    fits = lambda name, array: array.dtype == np.float64 and np.shape(full.get(name)) == array.shape
    return {name: full[name] if fits(name, array) else array for name, array in parameters.items()}


def model_case(name, parameters, ids, dead, config, chunks, flags, dialect):
    return case(name, outputs=("logits",), kind="model", traced=True, slow=slow_logits, flags=flags, dialect=dialect,
                parameters=parameters, ids=ids, dead=dead, config=config, chunks=chunks, absorbed="absorbed" in flags)


def slow_logits(parameters, ids, dead, config, chunks, absorbed):
    """Return the logits of the last chunk; the slow model processes the whole text at once."""
    return slow_forward(parameters, ids, config, dead)[:, ids.shape[1] - chunks[-1] :]


AREA = (models, routers, streams)
