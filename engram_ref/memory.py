"""Available memory, so that an allocation that does not fit raises an error before the system kills the process."""

import os
from pathlib import Path

from engram_ref.errors import InputError

MEMINFO = Path("/proc/meminfo")
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def available() -> int:
    """Return the kernel's estimate of free bytes, at most the container's limit; outside Linux, physical memory."""
    try:
        fields = dict(line.split(":") for line in MEMINFO.read_text(encoding="ascii").splitlines())
        free = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(free, int(CGROUP_LIMIT.read_text(encoding="ascii")))
    except (OSError, ValueError):     # no container, or no limit ("max")
        return free


def check_fits(name: str, needed: int) -> None:
    """Raise InputError if the parameters of `name` need more bytes than are available."""
    if needed > available():
        raise InputError("config", f"parameters that fit in {available() / 2**30:.1f} GiB of memory",
                         f"{name}, which needs {needed / 2**30:.1f} GiB",
                         "if you only need rows or sizes, use Addressing and shapes, which need no weights")
