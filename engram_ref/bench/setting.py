"""Where a run takes place: backend, rivals, threads, sizes."""

import functools
import importlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import numpy as np

from engram_ref.backends import numba as fast_ops
from engram_ref.bench.clock import Side
from engram_ref.packages import ABSENT, fault

SCRIPT = Path(__file__).parents[2] / "scripts" / "baselines.py"
LINE = 64
"""Bytes of a cache line."""

Size = TypeVar("Size")


@dataclass
class Setting:
    """One run of the benchmark.

    rounds    how often every side is measured
    quick     small sizes, to see that everything works; nothing is judged
    threads   of the rows that do not say how many they take
    rivals    the module of baselines; None where there is no such file
    ops       the backend that is measured
    """

    rounds: int = 7
    quick: bool = False
    threads: int = 1
    rivals: ModuleType | None = None
    ops: ModuleType = field(default=fast_ops)

    def size(self, full: Size, quick: Size) -> Size:
        """One of two sizes."""
        return quick if self.quick else full

    def lacks(self, need: str = "") -> str:
        """Why a rival cannot run here: no baselines, no torch or a broken one, no gcc; "" where it can."""
        if self.rivals is None:
            return "needs scripts/baselines.py"
        if need == "torch":
            return without_torch()
        return "needs gcc" if need == "gcc" and shutil.which("gcc") is None else ""

    @contextmanager
    def using(self, threads: int) -> Iterator[None]:
        """So many threads for our kernels, for BLAS where threadpoolctl is installed, and for torch if it is loaded."""
        with ExitStack() as stack:
            stack.enter_context(self.ops.threads(threads))
            if importlib.util.find_spec("threadpoolctl"):
                from threadpoolctl import threadpool_limits

                stack.enter_context(threadpool_limits(threads, user_api="blas"))
            torch = sys.modules.get("torch")
            if torch is not None:
                stack.callback(torch.set_num_threads, torch.get_num_threads())
                torch.set_num_threads(threads)
            yield


@dataclass
class Sides:
    """The sides of a case as they are gathered: those that can run, and why others cannot."""

    setting: Setting
    there: dict[str, Side] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, side: Side) -> None:
        """A side that always runs."""
        self.there[name] = side

    def rival(self, name: str, make: Callable[[ModuleType], Side], need: str = "") -> None:
        """A side that `make` builds from the baselines, where these and what they need are there."""
        why = self.setting.lacks(need)
        if why:
            self.missing[name] = why
        else:
            self.there[name] = make(self.setting.rivals)


def load_rivals() -> ModuleType | None:
    """The baselines: of the installed package, else of the clone this package stands in, else None."""
    try:
        return importlib.import_module("engram_ref.bench.baselines")
    except ModuleNotFoundError:
        pass
    if not SCRIPT.is_file():
        return None
    spec = importlib.util.spec_from_file_location("engram_ref_baselines", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def without_torch() -> str:
    """Why torch cannot be used; "" if it can. Only importing it tells, so it is loaded if a row needs it."""
    why = fault("torch")
    return "needs torch" if why == ABSENT else why and f"torch {why}"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def blas_threads(wanted: int) -> int:
    """Threads that NumPy's matrix products take while `wanted` are asked for."""
    if importlib.util.find_spec("threadpoolctl"):
        return wanted
    told = os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS") or ""
    return int(told) if told.isdigit() else cores()


def aligned(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """An array that starts on a cache line, every page of it touched."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(size + LINE, dtype=np.uint8)
    raw.fill(1)
    start = -raw.ctypes.data % LINE
    return raw[start : start + size].view(dtype).reshape(shape)
