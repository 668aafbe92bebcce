"""Gradients of whole modules and tiny models; torch's autograd confirms them in tests/golden/test_gradients.py."""

from dataclasses import replace

import numpy as np

from engram_ref.backends.tape import NAMESPACE, Value, as_value, calls, gradients, values_of
from engram_ref.model.engram import engram
from engram_ref.model.transformer import forward
from engram_ref.oracle.gradients import flattened
from engram_ref.oracle.noise import FLOAT64, measure
from engram_ref.oracle.run import call, convert
from scripts.builders.emulated_rounding import integer_case
from scripts.builders.models import shared_with_full
from scripts.builders.modules import CONFIGS, module_arguments
from scripts.builders.planned import case, rng_of
from scripts.builders.small_models import DENSE, FULL, HEAD, MLA, PLAIN, VOCABULARY, random_ids, random_model

TRAINED = {label: replace(config, table_codec="fp32", hidden_size=max(2, config.hidden_size))
           for label, config in CONFIGS.items()}
"""Tables are trained in the format of the weights: codes have no gradient. A norm of one channel has none either."""

WITH_MODULE = replace(DENSE, name="with-module", backbone=replace(DENSE.backbone, attention=MLA, rms_norm_eps=1e-6))
"""DENSE has latents of width 1, whose gradient through a norm is only rounding noise, which Muon would amplify."""


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


def module_names(parameters, hidden, rows, config, dead, upstream):
    """Return the names of a module's gradients."""
    values = {name: as_value(array) for name, array in ({"hidden": hidden} | parameters).items()}
    parameters = {name: values[name] for name in parameters}
    return backward_order(engram(parameters, values["hidden"], rows, config, dead=dead, ops=NAMESPACE), values)


def backward_order(output, values):
    """Return the names of the gradients in the order of a backward pass; a balancing bias has none."""
    names = {value.key: name for name, value in values.items()
             if isinstance(value, Value) and not name.endswith("gate.bias")}
    inputs = [value for node in calls(output) for value, _ in values_of(node.inputs)]
    order = dict.fromkeys(names[value.key] for value in inputs if value.key in names)
    found = gradients(output, np.zeros(output.shape), {name: values[name] for name in order})
    return tuple(stage for name in order for stage, _ in flattened(found[name], name))


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
    parameters |= {"table_scales": np.full_like(parameters["table_scales"], 127),       # key and value are small
                   "value_weight": parameters["value_weight"] / np.float32(1.25)}       # integers: no rounding is a tie
    upstream = rng_of("engram_gradients/v4.1-rounded upstream").standard_normal(hidden.shape).astype(np.float32)
    arguments = {"parameters": parameters, "hidden": hidden, "rows": rows, "config": config, "dead": None,
                 "upstream": upstream}
    outputs = module_names(**arguments)
    yield case("engram_gradients/v4.1-rounded", outputs=outputs, kind="f32",
               truth=lambda **wide: through_roundings(outputs, wide),
               flags="rounding straight-through dialect", dialect="v4.1-like", kind_of_case="gradients", **arguments)


def through_roundings(outputs, arguments):
    """Return the gradients in float64; only the roundings of the dialect are computed in float32."""
    run = lambda namespace: call("engram_gradients", convert(arguments, FLOAT64), outputs, namespace, FLOAT64, False)
    return measure(run, seed=0, samples=0)[0]


def models():
    """Yield whole models: plain, with everything, with tied embeddings, and with the absorbed form."""
    for title, config, B, T, flags in (
            ("plain", PLAIN, 1, 4, "unchosen positions"), ("full", FULL, 2, 3, "dead groups"),
            ("learned-collapse", HEAD, 1, 3, ""), ("dense-absorbed", WITH_MODULE, 1, 4, "absorbed eos")):
        name, parameters = f"forward_gradients/{title}", shared_with_full(random_model(config))
        ids, rng = random_ids(config, B, T), rng_of(f"forward_gradients/{title}")
        ids[:, -1] = ids[:, 0]
        dead = rng.random((B, T)) < 0.3 if "dead" in flags else None
        values = {key: as_value(array) for key, array in parameters.items()}
        logits = forward(values, ids, config, dead=dead, absorbed="absorbed" in flags, ops=NAMESPACE)
        yield case(name, outputs=("loss", *backward_order(logits, values)), flags=f"duplicates {flags}",
                   dialect=config.engram.name if config.engram else "", kind_of_case="gradients",
                   parameters=parameters, ids=ids, targets=rng.integers(0, VOCABULARY, (B, T)), config=config,
                   dead=dead, absorbed="absorbed" in flags)


AREA = (modules, models)
