"""The setting of a run: sizes, baselines, threads, and the machine. Host names and paths are not recorded."""

import functools
import importlib.util
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import engram_ref
from engram_ref.backends import load
from engram_ref.backends.numba import threads as kernel_threads
from engram_ref.bench.timing import Work
from engram_ref.packages import ABSENT, import_failure

BASELINES = (Path(__file__).parent, Path(__file__).parents[2] / "scripts")     # folders
CPUINFO = Path("/proc/cpuinfo")
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")

Size = TypeVar("Size")


def load_baselines(name: str = "baselines") -> ModuleType | None:
    """A module of baselines, from the installed package or from its clone; None if it is missing."""
    for folder in BASELINES:
        if (path := folder / f"{name}.py").is_file():
            spec = importlib.util.spec_from_file_location(f"engram_ref_{name}", path)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    return None


@functools.cache
def without_torch() -> str:
    """Reason that torch cannot be used; "" if it can. This imports torch, so it is called only if a row needs it."""
    why = import_failure("torch")
    return "needs torch" if why == ABSENT else why and f"torch {why}"


@dataclass
class Setting:
    """The settings of one benchmark run."""

    rounds: int = 7                         # measurements of every variant
    quick: bool = False                     # use small sizes, to check that everything runs; no goal is judged
    threads: int = 1                        # for rows that do not fix it
    baselines: ModuleType | None = None     # None if the file is missing
    ops: ModuleType = field(default_factory=lambda: load("numba"))      # namespace of the measured backend

    def size(self, full: Size, quick: Size) -> Size:
        """`quick` in a quick run, else `full`."""
        return quick if self.quick else full

    def baseline(self, make: Callable[[ModuleType], Work], need: str = "") -> Work | str:
        """The work that `make` builds from the baselines, or the reason it is unavailable."""
        if self.baselines is None:
            return "needs scripts/baselines.py"
        if need == "gcc" and shutil.which("gcc") is None:
            return "needs gcc"
        if need == "torch" and without_torch():
            return without_torch()
        return make(self.baselines)

    @contextmanager
    def using(self, threads: int) -> Iterator[None]:
        """Set the number of threads of our kernels, of BLAS (with threadpoolctl) and of torch (if it is loaded)."""
        with ExitStack() as stack:
            stack.enter_context(kernel_threads(threads))
            if importlib.util.find_spec("threadpoolctl"):
                from threadpoolctl import threadpool_limits

                stack.enter_context(threadpool_limits(threads, user_api="blas"))
            torch = sys.modules.get("torch")
            if torch is not None:
                stack.callback(torch.set_num_threads, torch.get_num_threads())
                torch.set_num_threads(threads)
            yield


def cores() -> int:
    """Number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def blas_threads(wanted: int) -> int:
    """Number of threads NumPy's matrix products use if `wanted` are requested."""
    if importlib.util.find_spec("threadpoolctl"):
        return wanted
    value = os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS") or ""
    return int(value) if value.isdigit() else cores()


def machine() -> dict[str, object]:
    """Processor, cores, caches, memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"cpu": cpu_field("model name") or platform.processor() or platform.machine(), "cores": cores(),
            "avx512": has_avx512(), "caches": caches(), "memory_gib": round(memory, 1), "system": platform.system()}


def versions() -> dict[str, str]:
    """Versions of Python, this package and the numerical libraries."""
    installed = {"python": platform.python_version(), "engram_ref": engram_ref.__version__}
    for name in ("numpy", "numba", "torch"):
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed[name] = "not installed"
    return installed


def has_avx512() -> bool:
    """Whether the processor has AVX-512, which the goals assume."""
    return "avx512f" in cpu_field("flags").split()


def cpu_field(name: str) -> str:
    """A field of /proc/cpuinfo for the first core; "" on other systems."""
    text = CPUINFO.read_text(encoding="utf-8") if CPUINFO.exists() else ""
    match = re.search(rf"^{name}\s*:(.*)", text, re.M)
    return match[1].strip() if match else ""


def caches() -> dict[str, str]:
    """{"L1 data": "48K", ...} of the first core; {} if unknown."""
    sizes = {}
    for folder in sorted(CACHES.glob("index*")):
        level, kind, size = ((folder / name).read_text(encoding="ascii").strip() for name in ("level", "type", "size"))
        if kind != "Instruction":
            sizes[f"L{level}" + (" data" if kind == "Data" else "")] = size
    return sizes
