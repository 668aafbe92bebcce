"""What a result was measured on: processor, caches, memory, versions. No host names, no paths."""

import importlib
import os
import platform
from importlib import metadata
from pathlib import Path

from engram_ref.bench.setting import blas_threads, cores

CPUINFO = Path("/proc/cpuinfo")
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
PACKAGES = ("numpy", "numba", "torch")


def machine() -> dict[str, object]:
    """Processor, cores, caches, memory."""
    return {
        "cpu": cpu_field("model name") or platform.processor() or platform.machine(),
        "cores": cores(),
        "avx512": has_avx512(),
        "caches": caches(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.system(),
    }


def versions() -> dict[str, str]:
    """Python, this package, and what does the arithmetic."""
    found = {"python": platform.python_version(), "engram_ref": importlib.import_module("engram_ref").__version__}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def threading(threads: int) -> dict[str, object]:
    """How many threads each part took."""
    return {"threads": threads, "kernels": "Python threads running serial kernels", "blas": blas_threads(threads)}


def has_avx512() -> bool:
    """Whether the processor has the vectors that the goals assume."""
    return "avx512f" in cpu_field("flags").split()


def cpu_field(name: str) -> str:
    """One line of what Linux says about the first core; "" elsewhere."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.split(":")[0].strip() == name), "")


def caches() -> dict[str, str]:
    """{"L1 data": "48K", ...} of the first core; {} where the system does not say."""
    found = {}
    for folder in sorted(CACHES.glob("index*")):
        level, kind, size = ((folder / name).read_text(encoding="ascii").strip() for name in ("level", "type", "size"))
        if kind != "Instruction":
            found[f"L{level}" + (" data" if kind == "Data" else "")] = size
    return found
