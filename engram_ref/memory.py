"""How much memory there is, so that what cannot fit is refused instead of killed."""

import os
from pathlib import Path

from engram_ref.errors import InputError

MEMINFO = Path("/proc/meminfo")
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def available() -> int:
    """Bytes that can be allocated now: what the kernel says is free, or the container's limit if smaller.

    Elsewhere than on Linux: the machine's physical memory.
    """
    try:
        fields = dict(line.split(":") for line in MEMINFO.read_text(encoding="ascii").splitlines())
        free = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(free, int(CGROUP_LIMIT.read_text(encoding="ascii")))
    except (OSError, ValueError):     # no container, or one without a limit ("max")
        return free


def check_fits(what: str, needed: int) -> None:
    """Refuse an allocation of `needed` bytes that does not fit, saying what it would take."""
    if needed > available():
        raise InputError("config", f"parameters that fit into {available() / 2**30:.1f} GiB of memory",
                         f"{what}, which needs {needed / 2**30:.1f} GiB",
                         "its layout, rows and sizes need no weights: see Addressing and shapes")
