"""Cases on a CUDA device: timed by the device's own clock, beside its own copy of as many bytes."""

from collections.abc import Mapping
from functools import partial

import numpy as np

from engram_ref.bench.case import OURS, Case, Comparison
from engram_ref.bench.measure import Rounds, Side
from engram_ref.bench.setting import without_torch

COPY = "the device copying as many bytes"
CALLS, WARM = 20, 3     # in one measurement, and before the first one


def missing() -> str:
    """Why there is no CUDA device to measure; "" if there is one."""
    if why := without_torch():
        return why
    import torch

    return "" if torch.cuda.is_available() else "torch finds no CUDA device"


def case(what: str, sizes: Mapping[str, int | str], ours: Side, moved: int) -> Case:
    """A case on the device: our side, and a copy that reads and writes as many bytes in all."""
    import torch

    source, target = (torch.zeros(moved // 2, dtype=torch.uint8, device="cuda") for _ in range(2))
    return Case(what, {**sizes, "device": torch.cuda.get_device_name()}, 1,
                {OURS: ours, COPY: partial(target.copy_, source)}, [Comparison("limit", COPY)], collect=launched)


def on_device(value: object) -> object:
    """Arrays, alone or by name, as tensors on the device; anything else as it is."""
    import torch

    if isinstance(value, dict):
        return {name: on_device(array) for name, array in value.items()}
    return torch.from_numpy(np.array(value, order="C")).to("cuda") if isinstance(value, np.ndarray) else value


def launched(sides: Mapping[str, Side], rounds: int) -> Rounds:
    """Seconds of one call of each side, round by round, by the device's own clock."""
    import torch

    seconds: Rounds = {name: [] for name in sides}
    for number in range(-1, rounds):                    # the first round compiles and is not counted
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
