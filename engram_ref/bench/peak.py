"""The peak of memory of one forward, in a process that does nothing else; run by `processes`.

    python -m engram_ref.bench.peak ours|torch QUICK THREADS ROUNDS     ->  [bytes, ...]
"""

import ctypes
import gc
import json
import sys
from functools import partial
from pathlib import Path

from engram_ref.bench import module
from engram_ref.bench.clock import Side
from engram_ref.bench.setting import Setting, load_rivals
from engram_ref.model.engram import engram

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
WARM = (1024, 9)        # tokens of the call that compiles: more than small inputs, less than the whole


def can_reset() -> bool:
    """Whether this system tells a process the peak of its memory and starts it anew."""
    try:
        CLEAR.write_text("5", encoding="ascii")
    except OSError:
        return False
    return STATUS.exists()


def resident(field: str) -> int:
    """Bytes of memory in use, VmRSS, or their peak since it was reset, VmHWM."""
    lines = STATUS.read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def extra(side: Side) -> int:
    """Bytes that a call takes at its peak beyond what was in use before it."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)            # what earlier calls freed goes back to the system
    CLEAR.write_text("5", encoding="ascii")
    before = resident("VmRSS")
    kept = side()
    peak = resident("VmHWM")
    del kept
    return peak - before


def main(side: str, quick: str, threads: str, rounds: str) -> None:
    """Print the extra bytes of each round."""
    setting = Setting(quick=quick == "1", threads=int(threads))
    config, parameters, hidden, rows = module.inputs(setting.quick, setting.size(*module.TOKENS))
    if side == "ours":
        run = partial(engram, parameters, config=config, ops=setting.ops, check=False)
    else:
        built = load_rivals().torch_engram(parameters, config.norm_eps, config.conv_norm_eps, config.conv_dilation)
        run = lambda hidden, rows: built(rows, hidden)
    few = setting.size(*WARM)
    with setting.using(setting.threads):
        run(hidden=hidden[:, :few], rows=rows[:, :few])
        print(json.dumps([extra(partial(run, hidden=hidden, rows=rows)) for _ in range(int(rounds))]))


if __name__ == "__main__":
    main(*sys.argv[1:])
