"""Gradients of whole modules and tiny models; torch's autograd confirms them in tests/golden/test_gradients.py."""

from dataclasses import replace

import numpy as np

from engram_ref.oracle.noise import FLOAT64, measure
from engram_ref.oracle.run import call, convert
from scripts.builders.emulated_rounding import integer_case
from scripts.builders.models import shared_with_full
from scripts.builders.modules import CONFIGS, module_arguments
from scripts.builders.planned import case, rng_of
from scripts.builders.small_models import DENSE, FULL, HEAD, PLAIN, VOCABULARY, random_ids, random_model

TRAINED = {label: replace(config, table_codec="fp32") for label, config in CONFIGS.items()}
"""Tables are trained in the format of the weights: codes have no gradient."""


def module_case(label, title, config, B, T, flags, dead=None, **changed):
    """Return the gradients of a module; the second token reads the rows of the first."""
    name = f"engram_gradients/{label}-{title}"
    arguments = module_arguments(name, config, B, T, dead=dead)
    del arguments["chunks"]
    arguments["parameters"] = {key: array.astype(np.float64) if array.dtype.kind == "V" else array
                               for key, array in arguments["parameters"].items()}
    arguments["rows"][:, 1:2] = arguments["rows"][:, :1]
    arguments |= {"upstream": rng_of(f"{name} upstream").standard_normal(arguments["hidden"].shape)} | changed
    return case(name, outputs=module_names(**arguments), flags=f"dialect {flags}", dialect=label,
                kind_of_case="gradients", **arguments)


def gradient_names(parameters, tied=False):
    """Return the names of the gradients in the order of a backward pass, from the last parameter to the first.

    tied   whether the embedding is also the output projection: its gradient is then dense
    """
    names = []
    for name, array in reversed(parameters.items()):
        table = name.endswith("table") or (name == "embed.weight" and not tied)
        if array.dtype.kind == "f" and not name.endswith("gate.bias"):      # a balancing bias has no gradient
            names += [f"{name}.rows", f"{name}.values"] if table else [name]
    return names


def module_names(parameters, hidden, **others):
    """Return the names of a module's gradients; that of the hidden state is the last one."""
    return tuple(gradient_names({"hidden": hidden} | parameters))


def modules():
    """Yield the module of every dialect, with DEAD positions, at scores of 0, and with roundings."""
    for label, config in TRAINED.items():
        unequal = " unequal-branches" if config.n_branches > 1 else ""
        yield module_case(label, "batch", config, 2, 3, f"duplicates batch{unequal}")
    dead = np.array([[False, True, False, True], [True, False, False, False]])
    config = TRAINED["short-kernel"]
    yield module_case("short-kernel", "dead", config, 2, 4, "duplicates dead", dead)
    config = TRAINED["no-conv"]
    zeros = np.zeros((1, 2, config.n_branches, config.hidden_size))
    yield module_case("no-conv", "zero-state", config, 1, 2, "clamp flat-zone", hidden=zeros)
    config, parameters, hidden, rows = integer_case(4)
    upstream = rng_of("engram_gradients/v4.1-rounded upstream").standard_normal(hidden.shape).astype(np.float32)
    yield case("engram_gradients/v4.1-rounded", outputs=module_names(parameters, hidden), kind="f32",
               truth=through_roundings, flags="rounding straight-through dialect", dialect="v4.1-like",
               kind_of_case="gradients",
               parameters=parameters, hidden=hidden, rows=rows, config=config, dead=None, upstream=upstream)


def through_roundings(**arguments):
    """Return the gradients in float64; only the roundings of the dialect are computed in float32."""
    outputs = module_names(**arguments)
    run = lambda namespace: call("engram_gradients", convert(arguments, FLOAT64), outputs, namespace, FLOAT64, False)
    return measure(run, seed=0, samples=0)[0]


def models():
    """Yield whole models: plain, with everything, with tied embeddings, and with the absorbed form."""
    for title, config, B, T, flags in (
            ("plain", PLAIN, 1, 4, "unchosen positions"), ("full", FULL, 2, 3, "dead groups"),
            ("learned-collapse", HEAD, 1, 3, ""), ("dense-absorbed", DENSE, 1, 4, "absorbed eos")):
        name, parameters = f"forward_gradients/{title}", shared_with_full(random_model(config))
        ids, rng = random_ids(config, B, T), rng_of(f"forward_gradients/{title}")
        ids[:, -1] = ids[:, 0]
        dead = rng.random((B, T)) < 0.3 if "dead" in flags else None
        outputs = ["loss", *gradient_names(parameters, config.backbone.tie_embeddings)]
        yield case(name, outputs=outputs, flags=f"duplicates {flags}",
                   dialect=config.engram.name if config.engram else "", kind_of_case="gradients",
                   parameters=parameters, ids=ids, targets=rng.integers(0, VOCABULARY, (B, T)), config=config,
                   dead=dead, absorbed="absorbed" in flags)


AREA = (modules, models)
