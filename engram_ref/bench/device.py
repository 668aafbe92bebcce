"""C1 to C4: the torch backend on a CUDA device, in microseconds, against the device's own copy of as many bytes."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from engram_ref.bench import module
from engram_ref.bench.clock import Side
from engram_ref.bench.judge import OURS, Case, Comparison
from engram_ref.bench.rows import Constants
from engram_ref.bench.setting import Setting, without_torch
from engram_ref.bench.tables import random_rows
from engram_ref.model.engram import through_module
from engram_ref.presets import preset

COPY = "the device copying as many bytes"
CALLS, WARM = 20, 3     # launches in one measurement, and before the first


def lacking() -> str:
    """Why there is no device to measure; "" where there is one."""
    if why := without_torch():
        return why
    import torch

    return "" if torch.cuda.is_available() else "torch finds no CUDA device"


def rows(setting: Setting) -> Iterator[Case]:
    """C1: rows of both layers of the released model, from raw ids."""
    from engram_ref.backends import torch as ops

    config = preset("deepseek-v4.1-flash")
    constants = Constants(config.name)
    ids = np.random.default_rng(1).integers(0, config.vocab_size, (8, setting.size(4096, 64)))
    moved = ids.nbytes * (1 + len(config.layer_ids) * config.columns)
    arguments = [on_device(a) for a in (ids, constants.canonical, constants.addressing.start(len(ids)),
                                        constants.multipliers, constants.primes)]
    yield case("rows, on a CUDA device", {"preset": config.name, "tokens": ids.size},
               partial(ops.address_layers, *arguments, None, constants.pad, None), moved)


def dequantise(setting: Setting) -> Iterator[Case]:
    """C2: FP8 rows gathered and decoded."""
    import torch

    from engram_ref.backends import torch as ops

    config, rng = replace(preset("deepseek-v4.1-flash"), rounding="none"), np.random.default_rng(6)
    in_table = setting.size(2**22, 960)
    found, offsets = random_rows(rng, in_table, setting.size(4096, 64), config.columns)
    parameters = {"table_codes": rng.integers(0, 127, (in_table, config.row_width), dtype=np.uint8),
                  "table_scales": rng.integers(110, 140, (in_table, config.row_width // 32), dtype=np.uint8),
                  "column_offsets": offsets}
    moved = found.size * (config.bytes_per_row + 4 * config.row_width)
    yield case("gather and decode, on a CUDA device", {"rows read": found.size, "row width": config.row_width},
               partial(ops.gather_decode, all_on_device(parameters), on_device(found), config, torch.float32), moved)


def gate(setting: Setting) -> Iterator[Case]:
    """C3: score, gate and gated value from projected keys."""
    from engram_ref.backends import torch as ops

    config, parameters, hidden, _ = module.inputs(setting.quick, setting.size(4096, 64))
    gains = all_on_device({name: parameters[name] for name in ("query_gain", "key_gain")})
    state, key, value = on_device(hidden), on_device(hidden[..., ::-1].copy()), on_device(hidden[:, :, 0].copy())

    def run() -> None:
        score = ops.gate_score(gains, state, key, config)
        ops.apply_gate(ops.gate(score, config.gate_form), value)

    moved = 3 * hidden.nbytes + hidden.nbytes // config.n_branches
    yield case("gate, on a CUDA device", {"tokens": hidden.shape[1], "hidden size": config.hidden_size}, run, moved)


def forward(setting: Setting) -> Iterator[Case]:
    """C4: the whole module, from rows and hidden state to Y."""
    from engram_ref.backends import torch as ops

    config, parameters, hidden, found = module.inputs(setting.quick, setting.size(4096, 64))
    taps = np.zeros((1, config.conv_span, config.n_branches, config.hidden_size), dtype=np.float32)
    arguments = (all_on_device(parameters), *map(on_device, (hidden, found, taps)))
    moved = 2 * hidden.nbytes + found.size * config.bytes_per_row
    yield case("the whole Engram forward, on a CUDA device", module.sizes_of(config, found),
               partial(through_module, *arguments, None, config, config.conv_span, ops, ops.ignore), moved)


def case(what: str, sizes: dict[str, int | str], ours: Side, moved: int) -> Case:
    """A case on the device: our side, and a copy that reads and writes as many bytes in all."""
    import torch

    source, target = (torch.zeros(moved // 2, dtype=torch.uint8, device="cuda") for _ in range(2))
    sides = {OURS: ours, COPY: partial(target.copy_, source)}
    return Case(what, {**sizes, "device": torch.cuda.get_device_name()}, 1, sides, [Comparison("limit", COPY)],
                collect=partial(timed_rounds, sides))


def timed_rounds(sides: dict[str, Side], rounds: int) -> dict[str, list[float]]:
    """Seconds of one call of each side, round by round, by the device's own clock."""
    import torch

    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(-1, rounds):
        for name, side in sides.items():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            for _ in range(WARM if number < 0 else CALLS):
                side()
            end.record()
            torch.cuda.synchronize()
            if number >= 0:
                seconds[name].append(start.elapsed_time(end) / 1000 / CALLS)
    return seconds


def on_device(array: np.ndarray) -> object:
    """A tensor on the device."""
    import torch

    return torch.from_numpy(np.array(array)).to("cuda")


def all_on_device(arrays: dict[str, np.ndarray]) -> dict[str, object]:
    """Tensors on the device, by the same names."""
    return {name: on_device(array) for name, array in arrays.items()}
