"""Composite ops that models call, in every dialect: gather and decode, project, gate, convolve, and all combined."""

from dataclasses import replace

import numpy as np

from engram_ref import ops
from scripts.builders.codecs import NO_FLOOR
from scripts.builders.emulated_rounding import emulated_project, integer_case
from scripts.builders.modules import CONFIGS, module_arguments
from scripts.builders.planned import Other, case, rng_of
from scripts.builders.small_modules import slow_gated


def composites():
    """Yield cases for each composite, applied to the output of the previous one."""
    for label, config in CONFIGS.items():
        a = module_arguments(f"gated_update/{label}", config, 1, 3)
        p, hidden, rng = a["parameters"], a["hidden"], rng_of(f"taps/{label}")
        memory = ops.gather_decode(p, a["rows"], config, np.float64)
        dead = np.array([[False, True, False]]) if config.dead_barrier else None
        taps = rng.standard_normal((1, config.conv_span, config.n_branches, config.hidden_size))
        shared = {"dialect": label, "flags": "dialect", "config": config}
        tables, rest = split(p)
        yield case(f"gather_decode/{label}", outputs=("memory",), kind="exact", dialect=label, flags="dialect flat",
                   parameters=tables, rows=a["rows"], config=config, dtype=np.float64,
                   slow=lambda parameters, rows, **_: parameters["table"][rows + parameters["column_offsets"]])
        weights = {n: v for n, v in rest.items() if n.startswith(("key_weight", "key_bias", "value_"))}
        yield case(f"project/{label}", outputs=("key", "value"), parameters=weights, memory=memory, **shared)
        key, _ = ops.project(p, memory, config)
        gains = {n: rest[n] for n in ("query_gain", "key_gain")}
        yield case(f"gate_score/{label}", parameters=gains, hidden=hidden, key=key, **shared)
        update = {"parameters": rest, "memory": memory, "hidden": hidden, "dead": dead}
        marked = shared | {"flags": "dialect" if dead is None else "dialect dead"}
        no_conv = {n: v for n, v in rest.items() if not n.startswith("conv_")}
        yield case(f"project_and_gate/{label}", outputs=("gated",), traced=True, slow=slow_gate, **marked,
                   **update | {"parameters": no_conv})
        kept = ("output", "kept") if config.conv_kernel else ("output",)
        yield case(f"gated_update/{label}", outputs=kept, traced=True, taps=taps, keep=2, **marked, **update)
        if config.conv_kernel:
            gated = ops.project_and_gate(p, memory, hidden, dead, config)
            yield case(f"gated_conv/{label}", outputs=("output", "conv_norm"), traced=True, gated=gated, taps=taps,
                       parameters={n: rest[n] for n in ("conv_gain", "conv_weight")}, **shared)


def faint_memory():
    """Yield V4.1's projection of a memory below the quantiser's floor, with weights whose float32 sums are exact."""
    config, p, _, _ = integer_case(4)
    numbers = rng_of("project/faint").integers(-60, 61, (1, 3, config.memory_width))
    unfloored = Other("without a floor", NO_FLOOR, {"config": replace(config, quantise_floor=0.0)}, slow_project)
    yield case("project/v4.1-faint", outputs=("key", "value"), kind="exact", dialect="v4.1-like",
               flags="floor rounding", parameters={name: p[name] for name in ("key_weight", "value_weight")},
               memory=(2.0**-34 * numbers).astype(np.float32), config=config, slow=slow_project, accept=[unfloored])


def slow_project(parameters, memory, config):
    """Compute keys and values with exact fractions."""
    return emulated_project(parameters, memory.reshape(-1, memory.shape[-1]).tolist(), config.quantise_floor)


def split(parameters):
    """Split the parameters into the tables with their offsets and all others."""
    tables = {name: array for name, array in parameters.items() if name.startswith("table") or name == "column_offsets"}
    return tables, {name: array for name, array in parameters.items() if name not in tables}


def slow_gate(parameters, memory, hidden, dead, config):
    """Return the gated values of each sequence."""
    config = replace(config, conv_kernel=0)              # the case has no parameters of the convolution
    marks = [None] * len(memory) if dead is None else dead
    return [slow_gated(parameters, e, h, config, d) for e, h, d in zip(memory, hidden, marks, strict=True)]


AREA = (composites, faint_memory)
