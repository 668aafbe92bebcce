"""The rows of a CUDA device, timed by the device's clock.

Three compositions have Triton kernels and are compared with a copy of as many bytes as they read and write. The module
is compared with the matrix product that it contains, in float32. Inputs are much larger than the device's caches, so
that launching a kernel takes a small part of the time.
"""

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np

from engram_ref.backends import load
from engram_ref.bench import lookup, model
from engram_ref.bench.case import OURS, Case, Comparison
from engram_ref.bench.setting import Setting, without_torch
from engram_ref.bench.timing import Rounds, Work
from engram_ref.model.engram import apply_module

COPY = "copying equally many bytes on the device"
CALLS, WARM = 20, 3     # calls per measurement, and before the first one


def missing() -> str:
    """Reason that CUDA cannot be measured; "" if a device is available."""
    if why := without_torch():
        return why
    import torch

    from engram_ref.backends.torch import kernels

    if not torch.cuda.is_available():
        return "torch finds no CUDA device"
    return "" if kernels.available("cuda") else "triton is not installed"


def rows(setting: Setting) -> Iterator[Case]:
    """Rows of both layers of the released model, from canonical ids."""
    shape = (8, setting.size(2**19, 64))
    config, (raw, canonical, *others), _ = lookup.hashing("deepseek-v4.1-flash", np.random.default_rng(1), shape)
    ids = canonical[raw]
    ours = partial(load("torch").address_layers, on_device(ids), None, *map(on_device, others))
    yield case("rows, on a CUDA device", {"preset": config.name, "tokens": ids.size}, ours,
               ids.nbytes * (1 + len(config.layer_ids) * config.columns))


def dequantise(setting: Setting) -> Iterator[Case]:
    """FP8 rows, gathered and decoded."""
    config, parameters, rows = lookup.fp8_rows(setting.size(2**22, 960), setting.size(2**16, 64))
    dtype = on_device(np.zeros(0, np.float32)).dtype
    ours = partial(load("torch").gather_decode, on_device(parameters), on_device(rows), config, dtype)
    yield case("gather and decode, on a CUDA device", {"rows read": rows.size, "row width": config.row_width},
               ours, rows.size * (config.bytes_per_row + 4 * config.row_width))


def gate(setting: Setting) -> Iterator[Case]:
    """Score, gate and gated value, given the projected keys and value."""
    from engram_ref.backends.torch.kernels.gate import gate as kernel

    config, parameters, hidden, _ = model.inputs(setting, setting.size(4096, 64))
    gains = map(on_device, (parameters["query_gain"], parameters["key_gain"]))
    state, key, value = map(on_device, (hidden, hidden[..., ::-1], hidden[:, :, 0]))
    yield case("gate, on a CUDA device", {"tokens": hidden.shape[1], "hidden size": config.hidden_size},
               partial(kernel, state, key, value, *gains, config.norm_eps),
               3 * hidden.nbytes + hidden.nbytes // config.n_branches)


def forward(setting: Setting) -> Iterator[Case]:
    """The whole module, from rows and hidden state to Y."""
    import torch

    config, parameters, hidden, rows = model.inputs(setting, setting.size(4096, 64))
    taps = np.zeros((1, config.conv_span, config.n_branches, config.hidden_size), dtype=np.float32)
    ops, arguments = load("torch"), map(on_device, (parameters, hidden, rows, taps))
    memory, weight = (torch.randn(n, config.memory_width, device="cuda")
                      for n in (rows.shape[1], (config.n_branches + 1) * config.hidden_size))
    yield Case("Engram forward, on a CUDA device", on_a_device(model.sizes_of(config, rows)), 1, {
        OURS: partial(apply_module, *arguments, None, config, config.conv_span, ops, ops.ignore),
        model.SGEMM: partial(torch.matmul, memory, weight.T),
    }, [Comparison("limit", model.SGEMM)], collect=launched)


def case(title: str, sizes: Mapping[str, int | str], ours: Work, moved: int) -> Case:
    """A case on the device: our work, and a copy that reads and writes `moved` bytes in total."""
    import torch

    source, target = (torch.zeros(moved // 2, dtype=torch.uint8, device="cuda") for _ in range(2))
    return Case(title, on_a_device(sizes), 1, {OURS: ours, COPY: partial(target.copy_, source)},
                [Comparison("limit", COPY, 0.8)], collect=launched)


def on_a_device(sizes: Mapping[str, int | str]) -> dict[str, int | str]:
    """The sizes of a case with the name of the device."""
    import torch

    return {**sizes, "device": torch.cuda.get_device_name()}


def on_device(value: object) -> object:
    """Move arrays, alone or in a dictionary, to the device; return other values unchanged."""
    import torch

    if isinstance(value, dict):
        return {name: on_device(array) for name, array in value.items()}
    return torch.from_numpy(np.array(value, order="C")).to("cuda") if isinstance(value, np.ndarray) else value


def launched(variants: Mapping[str, Work], rounds: int) -> Rounds:
    """Seconds per call of each variant in each round, by the device's clock."""
    import torch

    seconds: Rounds = {name: [] for name in variants}
    for number in range(-1, rounds):                    # the first round compiles and is discarded
        for name, variant in variants.items():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            for _ in range(WARM if number < 0 else CALLS):
                variant()
            end.record()
            torch.cuda.synchronize()
            if number >= 0:
                seconds[name].append(start.elapsed_time(end) / 1000 / CALLS)
    return seconds
