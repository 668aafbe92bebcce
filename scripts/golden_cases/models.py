"""Whole tiny models: logits by tests/slow/transformer.py, every stage by the NumPy definition in float64."""

from dataclasses import replace

import numpy as np

from engram_ref.presets import GATES
from golden_cases.make import case, rng_of
from tests.cases_backbone import FULL, MODELS, random_ids, random_model, slow_forward

BARRED = {name: config for name, config in MODELS.items() if config.engram is not None and config.engram.dead_barrier}
"""The models that take DEAD marks."""


def dialects():
    """The full model with the gate of every dialect."""
    for name, gate in GATES.items():
        engram = replace(FULL.engram, name=f"{name}-gate", projection_bias=name == "demo", **gate)
        yield f"full-{name}", replace(FULL, name=f"full-{name}", engram=engram)


def models():
    """Every model: a batch, one token, none, two chunks; the absorbed form; DEAD positions."""
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


def shared_with_full(parameters):
    """The full model's arrays wherever they fit, so that they are stored once."""
    full = random_model(FULL)
    fits = lambda name, array: array.dtype == np.float64 and np.shape(full.get(name)) == array.shape
    return {name: full[name] if fits(name, array) else array for name, array in parameters.items()}


def model_case(name, parameters, ids, dead, config, chunks, flags, dialect):
    return case(name, outputs=("logits",), kind="model", traced=True, slow=slow_logits, flags=flags, dialect=dialect,
                parameters=parameters, ids=ids, dead=dead, config=config, chunks=chunks, absorbed="absorbed" in flags)


def slow_logits(parameters, ids, dead, config, chunks, absorbed):
    """Logits of the last chunk: the slow model sees the whole text at once."""
    return slow_forward(parameters, ids, config, dead)[:, ids.shape[1] - chunks[-1] :]


AREA = (models,)
