"""The Engram module of every dialect; oracle/slow/module.py computes the answers."""

from dataclasses import replace

import numpy as np

from engram_ref import ops
from engram_ref.addressing import Addressing
from engram_ref.oracle.run import Adapter, call
from scripts.builders.codecs import NO_FLOOR
from scripts.builders.emulated_rounding import emulated_memory, emulated_project, integer_case
from scripts.builders.planned import Other, bf16, case, rng_of
from scripts.builders.small_modules import (
    DIALECTS,
    V41,
    random_inputs,
    random_parameters,
    slow_engram,
    slow_gated,
    slow_tail,
)
from scripts.builders.streams import STEPS, columns_of, dead_of, stream_case, taps_of

PLAIN_V41 = replace(V41, name="v4.1-like-unrounded", table_codec="fp32", rounding="none")
CONFIGS = {**DIALECTS, PLAIN_V41.name: PLAIN_V41}
WITH_BARRIER = [name for name, config in CONFIGS.items() if config.dead_barrier]


def module_arguments(name, config, B, T, chunks=None, dead=None, dtype=np.float64):
    """Return the arguments of one module: random parameters, and branches of different size."""
    parameters = random_parameters(config, rng_of(config.name), dtype=dtype)       # one set per dialect
    hidden, rows = random_inputs(config, rng_of(name), B, T, dtype)
    return bf16({"parameters": parameters, "hidden": hidden, "rows": rows, "config": config, "dead": dead,
                 "chunks": chunks or [T]})


def whole():
    """Yield cases for each dialect: a batch, one token, no tokens, two chunks, DEAD positions, zero states, float32."""
    for label, config in CONFIGS.items():
        shared = {"outputs": ("output", "taps"), "dialect": label, "traced": True}
        unequal = " unequal-branches" if config.n_branches > 1 else ""
        for title, B, T, chunks, flags in (("batch", 2, 3, None, f"batch{unequal}"),
                                           ("one-token", 1, 1, None, "one-token short"),
                                           ("empty", 2, 0, None, "empty"), ("chunked", 1, 5, [3, 2], "chunked")):
            name = f"engram/{label}-{title}"
            yield case(name, slow=slow_module, flags=f"dialect {flags}", **shared,
                       **module_arguments(name, config, B, T, chunks))
        if config.gate_form != "copysign_sqrt":      # for a zero score, its sign depends on the order of the sum
            arguments = module_arguments(f"engram/{label}-zero", config, 1, 2)
            arguments["hidden"][:] = 0.0
            yield case(f"engram/{label}-zero-state", slow=slow_module, flags="clamp eps dialect", **shared, **arguments)
        name = f"engram/{label}-float32"
        yield case(name, slow=in_float32(slow_module), truth=in_float32(through_ops), kind="f32",
                   flags="float32 dialect", **shared, **module_arguments(name, config, 1, 2, dtype=np.float32))
    for label in WITH_BARRIER:
        dead = np.array([[False, True, False, True], [True, False, False, False]])
        name = f"engram/{label}-dead"
        yield case(name, slow=slow_module, flags="dead dialect", outputs=("output", "taps"), traced=True, dialect=label,
                   **module_arguments(name, CONFIGS[label], 2, 4, dead=dead))


def in_float32(function):
    """Return the function in float64, but with float32's machine epsilon if the dialect's eps is that of the dtype."""
    def with_eps(config, **arguments):
        eps = float(np.finfo(np.float32).eps) if config.norm_eps is None else config.norm_eps
        return function(config=replace(config, norm_eps=eps), **arguments)
    return with_eps


def through_ops(**arguments):
    """Compute all stages of the module with the NumPy definition."""
    return call("engram", arguments, ("output", "taps"), ops, Adapter(), True)


def slow_module(parameters, hidden, rows, config, dead, chunks):
    """Return Y of the last chunk; the slow module processes the whole stream at once."""
    return {"output": slow_engram(parameters, hidden, rows, config, dead)[:, hidden.shape[1] - chunks[-1] :]}


def released():
    """Yield V4.1 cases with its roundings; float32 sums are exact in any order, so projections are bit-identical."""
    wide = {"row_width": 64, "n_heads": 1, "table_sizes": (3, 5, 7)}           # rows with two scales
    for title, width, shape in (("4", 4, {}), ("16", 16, {}), ("wide-rows", 4, wide)):
        config, parameters, hidden, rows = integer_case(width, **shape)
        arguments = {"parameters": parameters, "hidden": hidden, "rows": rows, "config": config, "dead": None,
                     "chunks": [hidden.shape[1]]}
        shared = {"kind": "f32", "truth": after_rounding, "slow": slow_released, "traced": True,
                  "outputs": ("output", "taps"), "exact": ("memory", "key", "value", "taps"), "dialect": "v4.1-like"}
        yield case(f"engram/v4.1-rounded-{title}", flags="rounding dialect", **shared, **arguments)
        if shape:
            continue
        faint = parameters | {"table_scales": parameters["table_scales"] - np.uint8(32)}
        unfloored = Other("without a floor", NO_FLOOR, {"config": replace(config, quantise_floor=0.0)}, slow_released)
        yield case(f"engram/v4.1-rounded-faint-{width}", flags="floor rounding dialect", accept=[unfloored], **shared,
                   **arguments | {"parameters": faint})


def streams():
    """Yield streams of the module: every kind of step in one dialect, one token at a time in the others."""
    titles_by_label = {"demo-like": [title for title in STEPS if title != "chunks"], "qwen-like": ("one-by-one",),
                       "short-kernel": ("one-by-one-dead",)}
    for label, title in ((label, title) for label, titles in titles_by_label.items() for title in titles):
        config, (flags, steps) = CONFIGS[label], STEPS[title]
        name, T = f"engram_stream/{label}-{title}", columns_of(steps)
        dead = dead_of(name, (2, T)) if title == "one-by-one-dead" else None
        a = module_arguments(name, config, 2, T, dead=dead)
        yield stream_case(name, "output", 2, steps, slow_stream, {key: a[key] for key in ("hidden", "rows", "dead")},
                          f"dialect {flags}", ["taps"], dialect=label, parameters=a["parameters"],
                          config=config)


def slow_stream(parameters, hidden, rows, config, dead, steps):
    """Return Y and the taps after one text."""
    table = np.asarray(parameters["table"], dtype=np.float64)
    memory = table[rows[0] + parameters["column_offsets"]].reshape(rows.shape[1], config.memory_width)
    gated = slow_gated(parameters, memory, hidden[0], config, None if dead is None else dead[0])
    return slow_tail(parameters, gated, config), {"taps": taps_of(parameters, gated, config)}


def in_single(parameters):
    """Convert the parameters back to float32."""
    return {name: array.astype(np.float32) if array.dtype == np.float64 else array
            for name, array in parameters.items()}


def after_rounding(parameters, hidden, rows, config, dead, chunks):
    """Compute the stages in float64 from the rounded keys and values."""
    stages, single = {}, in_single(parameters)
    stages["memory"] = ops.gather_decode(single, rows, config, np.float32)
    stages["key"], stages["value"] = ops.project(single, stages["memory"], config)
    s = ops.gate_score(parameters, hidden, stages["key"].astype(np.float64), config)
    stages["score"], stages["gate"] = s, ops.gate(s, config.gate_form)
    stages["gated"] = ops.apply_gate(stages["gate"], stages["value"].astype(np.float64))
    return stages | {"output": stages["gated"], "taps": np.zeros((len(hidden), 0, *hidden.shape[2:]), np.float32)}


def slow_released(parameters, hidden, rows, config, dead, chunks):
    """Compute memory, keys and values with exact fractions."""
    single = in_single(parameters)
    memories = [emulated_memory(single, rows[position]) for position in np.ndindex(rows.shape[:2])]
    keys, values = emulated_project(single, memories, config.quantise_floor)
    return {"memory": memories, "key": keys, "value": values}


def invalid():
    """Yield rows that the module must refuse: one past the last table, one past a table in the middle, and -1."""
    config = CONFIGS["demo-like"]
    sizes = Addressing(config).primes[config.layer_ids[0]]
    for title, column, wrong in (("row-past-the-end", -1, sizes[-1]), ("row-past-its-table", 1, sizes[1]),
                                 ("row-below-zero", 0, -1)):
        a = module_arguments("engram/invalid", config, 1, 2)
        a["rows"][0, 1, column] = wrong
        yield case(f"engram/{title}", outputs=(), flags="out-of-range", dialect="demo-like", **a)


AREA = (whole, released, streams, invalid)
