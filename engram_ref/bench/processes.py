"""P8 and P12: what needs processes of its own, the peak of memory and the time of an import."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import engram_ref
from engram_ref.bench import module
from engram_ref.bench.judge import OURS, Case, Comparison
from engram_ref.bench.peak import can_reset
from engram_ref.bench.setting import Setting, Sides

OUTPUT = "the output"
NUMPY = "import numpy"
HEAVY = ("numba", "torch", "matplotlib", "tokenizers")
LOADED = f"import sys, engram_ref; print(*sorted(set({HEAVY}) & set(sys.modules)))"
STARTS = 15             # fresh processes at least


def memory(setting: Setting) -> Iterator[Case]:
    """P8: the peak of extra memory of the whole forward."""
    config, tokens = module.module_config(setting.quick), setting.size(*module.TOKENS)
    output = 4 * tokens * config.n_branches * config.hidden_size
    sides = Sides(setting)
    sides.add(OURS, partial(peaks, "ours", setting))
    sides.rival(module.MODULE, lambda rivals: partial(peaks, "torch", setting), "torch")
    missing = sides.missing
    if not can_reset():
        sides.there, missing = {}, dict.fromkeys((OURS, module.MODULE), "needs Linux, which tells a process its peak")

    def collect(rounds: int) -> dict[str, list[float]]:
        return {**{name: side(rounds) for name, side in sides.there.items()}, OUTPUT: [float(output)] * rounds}

    sizes = {"tokens": tokens, "hidden size": config.hidden_size, "branches": config.n_branches,
             "output bytes": output}
    yield Case("the whole Engram forward, extra memory", sizes, setting.threads, sides.there, [
        Comparison("memory", OUTPUT, 2.0), Comparison("memory", OUTPUT, of=module.MODULE),
        Comparison("limit", OUTPUT),
    ], missing, unit="B", collect=collect, note="the extra memory holds the output")


def peaks(side: str, setting: Setting, rounds: int) -> list[float]:
    """Bytes that a forward takes at its peak beyond what was there before, measured in a process of its own."""
    done = fresh("-m", "engram_ref.bench.peak", side, str(int(setting.quick)), str(setting.threads), str(rounds))
    return json.loads(done.stdout)


def imports(setting: Setting) -> Iterator[Case]:
    """P12: a process that imports NumPy and this package beside one that imports NumPy."""
    loaded = ", ".join(fresh("-c", LOADED).stdout.split())
    starts = setting.size(max(setting.rounds, STARTS), setting.rounds)

    yield Case("import", {"processes a side": starts}, 1, {}, [Comparison("later", NUMPY, 15.0)],
               collect=lambda rounds: import_times(starts), failed=f"loads {loaded} as well" if loaded else "",
               note="" if loaded else f"loads none of {', '.join(HEAVY)}")


def import_times(starts: int) -> dict[str, list[float]]:
    """Seconds of so many processes that import each, in turns; both find their compiled bytes in one new folder."""
    commands = {OURS: "import numpy, engram_ref", NUMPY: "import numpy"}
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as folder:
        compiled = {"PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}
        for number in range(-1, starts):
            for name, command in commands.items():
                start = time.perf_counter()
                fresh("-c", command, **compiled)
                if number >= 0:                            # the first one compiles
                    seconds[name].append(time.perf_counter() - start)
    return seconds


def fresh(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Run Python in a new process that finds this very package."""
    above = str(Path(engram_ref.__file__).parents[1])
    path = os.pathsep.join(filter(None, [above, os.environ.get("PYTHONPATH")]))
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True,
                          env=os.environ | {"PYTHONPATH": path} | environment)
