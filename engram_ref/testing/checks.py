"""Checks of a port on random inputs: the rows and the module of one configuration."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import NoneType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from engram_ref.checks import check_kinds, integer
from engram_ref.config import EngramConfig, check_layer
from engram_ref.errors import InputError, described
from engram_ref.layout import layout
from engram_ref.model.engram import engram, start_state
from engram_ref.model.engram_parameters import check_parameters, weight_dtype
from engram_ref.ops.codecs import round_bf16
from engram_ref.presets import preset
from engram_ref.testing.answers import Call, Convert, case_of, check_calls
from engram_ref.testing.draw import picker, random_history, random_parameters, random_shape, random_text

Parameters = Mapping[str, np.ndarray]
LARGEST = {"hidden_size": 16, "row_width": 32, "n_heads": 2}
"""Sizes of the module that `check_engram` draws parameters for, if those of the configuration are larger."""


def check_rows(port: Callable[..., Any], config: EngramConfig | str, *, layer_id: int | None = None,
               flat: bool = False, cases: int = 100, seed: int = 0, to: Convert = None) -> None:
    """Check that a port computes the rows of one layer.

    port       called as port(ids int64 [B, T], history int64 [B, N-1]); returns rows int64 [B, T, C]. The ids are
               canonical; -1 is DEAD, and in the history also a token before the start of the text
    config     a configuration or the name of a preset
    layer_id   one of its layers; default: the first
    flat       whether the rows include the column offsets
    cases      number of texts; T = 0, 1 and N-1, and DEAD and EOS if the dialect has them, are common
    seed       of the texts
    to         converts each NumPy array to an array of the port
    raises     AssertionError if rows differ; InputError for invalid arguments
    """
    config, layer = check_arguments(port, config, layer_id, to)
    rng, calls = np.random.default_rng(integer("seed", seed)), list[Call]()
    for B, T in drawn_shapes(rng, cases, lambda: random_shape(rng, config.max_ngram)):
        ids, history = random_text(rng, config, (B, T)), random_history(rng, config, B)
        case = case_of(
            "addressing", f"{config.name}, layer {layer}, text {len(calls)}",
            {"config": config, "canonical_ids": ids, "layer_id": layer, "history": history, "flat": flat},
            ("multipliers", "primes", "offsets", "table_rows", "rows"), floats=False)
        calls.append((case, (ids, history), f"ids {ids.tolist()}, history {history.tolist()}"))
    check_calls(port, calls, ("rows",), to)


def check_engram(port: Callable[..., Any], config: EngramConfig | str, parameters: Parameters | None = None, *,
                 layer_id: int | None = None, cases: int = 20, seed: int = 0, dtype: DTypeLike | None = None,
                 to: Convert = None) -> None:
    """Check that a port, a function or a torch module, computes Y and the taps of one layer's module.

    port         called as port(parameters, hidden [B, T, M, D], rows int64 [B, T, C], taps, dead); taps are
                 [B, (L-1)*dilation, M, D] or None, dead is bool [B, T] or None if the dialect has no DEAD. Returns Y,
                 or (Y, taps after the last token), or {stage: array} of any traced stages
    config       a configuration or the name of a preset; without parameters, large widths and tables are reduced
    parameters   of every call; default: drawn for every call
    layer_id     the layer; default: the first
    cases        number of inputs; T = 0, 1 and N-1, tokens before the call, zero states and DEAD marks are common
    seed         of the inputs; floats in them are exact in bfloat16
    dtype        of the float inputs and of the port's arithmetic, float32 or float64; default: that of the parameters,
                 or as for `initialise`
    to           converts each NumPy array to an array of the port
    raises       AssertionError if a stage differs by more than rounding explains; InputError for invalid arguments
    """
    config, layer = check_arguments(port, config, layer_id, to, parameters)
    config = reduced(config, layer) if parameters is None else config
    kind = weight_dtype(config, parameters["value_weight"].dtype if dtype is None and parameters is not None else dtype)
    rng, calls = np.random.default_rng(integer("seed", seed)), list[Call]()
    for B, T in drawn_shapes(rng, cases, lambda: picker(rng)((1, 1), (2, 1), (1, 0), (1, 2), (2, 5))):
        before = picker(rng)(0, 1, config.conv_span)
        weights = representable(random_parameters(config, rng, layer, kind)) if parameters is None else parameters
        hidden, rows, dead = random_inputs(rng, config, layer, (B, before + T), kind)
        case = case_of(
            "engram", f"{config.name}, layer {layer}, text {len(calls)}",
            {"parameters": {"parameters": weights}, "hidden": hidden, "rows": rows, "config": config, "dead": dead,
             "chunks": [before, T]}, ("output", "taps"), traced=True)
        state = start_state(config, B, kind)
        marks = (None, None) if dead is None else (dead[:, :before], dead[:, before:])
        engram(weights, hidden[:, :before], rows[:, :before], config, state=state, dead=marks[0])
        taps = state.taps if config.conv_kernel else None
        calls.append((case, (weights, hidden[:, before:], rows[:, before:], taps, marks[1]),
                      f"B = {B}, T = {T} after {before} tokens"))
    check_calls(port, calls, ("output", "taps"), to)


def check_arguments(port: object, config: EngramConfig | str, layer_id: int | None, to: Convert,
                    parameters: Parameters | None = None) -> tuple[EngramConfig, int]:
    """Return the configuration and layer; raise InputError for invalid arguments."""
    for name, function in (("port", port), ("to", (lambda x: x) if to is None else to)):
        if not callable(function):
            raise InputError(name, "a function", described(function))
    config = preset(config) if isinstance(config, str) else config
    check_kinds(config=(config, EngramConfig), parameters=(parameters, Mapping, NoneType))
    layer = config.layer_ids[0] if layer_id is None else layer_id
    check_layer(config, layer)
    if parameters is not None:
        check_parameters(parameters, config, layer)
    return config, layer


def drawn_shapes(rng: np.random.Generator, cases: int, draw: Callable[[], tuple[int, int]]) -> list[tuple[int, int]]:
    """Return B and T of each case, the smallest first."""
    return sorted((draw() for _ in range(integer("cases", cases, 1))), key=np.prod)


def random_inputs(rng: np.random.Generator, config: EngramConfig, layer: int, shape: tuple[int, int],
                  dtype: type) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return hidden states, some of them zero or tiny, rows, and DEAD marks if the dialect has them."""
    branches = (*shape, config.n_branches, 1)
    size = np.where(rng.random(branches) < 0.5, 1.0, 10.0 ** rng.uniform(-18, 2, branches))
    hidden = rng.standard_normal((*branches[:-1], config.hidden_size)) * size * (rng.random(branches) < 0.9)
    rows = rng.integers(0, layout(config, layer).primes, (*shape, config.columns))
    return (representable({"hidden": hidden.astype(dtype)})["hidden"], rows,
            rng.random(shape) < 0.2 if config.dead_barrier else None)


def representable(arrays: Parameters) -> dict[str, np.ndarray]:
    """Return the arrays with all floats rounded to bfloat16, in their dtypes."""
    return {name: round_bf16(x.astype(np.float32)).astype(x.dtype) if x.dtype.kind == "f" else x
            for name, x in arrays.items()}


def reduced(config: EngramConfig, layer: int) -> EngramConfig:
    """Return a configuration of one layer, with widths and tables of at most a test's size."""
    sizes = {name: min(getattr(config, name), largest) for name, largest in LARGEST.items()}
    return replace(config, layer_ids=(layer,), multipliers=None, **sizes,
                   table_sizes=tuple(min(size, 23 + 8 * i) for i, size in enumerate(config.table_sizes)))
