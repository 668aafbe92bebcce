"""Compare three ways to run a multithreaded kernel between matrix products.

    python scripts/threads.py [--quick]

own         this package's threads: Python threads that run serial kernels without the GIL
omp         Numba's parallel loop with OpenMP
workqueue   Numba's parallel loop with its own thread pool

Each variant runs in a separate process, because Numba cannot change its threading layer within a process. The table
shows medians: the product alone, the kernel alone, both alternating, and the ratio of the third to the sum of the first
two. A ratio above 1 means that the product and the kernel slow each other down.
"""

import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

VARIANTS = ("own", "omp", "workqueue")
ROUNDS = 15


def median(work: Callable[[], object]) -> float:
    """Median seconds of ROUNDS calls, after one call to warm up."""
    work()
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def gate_kernel(variant: str, hidden: np.ndarray, key: np.ndarray, gates: np.ndarray) -> Callable[[], object]:
    """The fused gate over all tokens, with this package's threads or with Numba's parallel loop."""
    from numba import njit, prange

    gate, threads = (importlib.import_module(f"engram_ref.backends.numba.{name}") for name in ("gate", "_threads"))
    gain, tokens = np.ones(hidden.shape[1:], hidden.dtype), len(hidden)
    if variant == "own":
        threads.MIN_PARALLEL_BYTES = 0
        return lambda: gate.score_and_gate(hidden, key, gain, 1e-6, gate.SIGMOID, gates)
    kernel, form = gate._gate, gate.SIGMOID

    @njit(parallel=True)
    def loop(hidden, key, gain, eps, gates, parts):
        for i in prange(parts):
            kernel(hidden, key, gain, eps, form, gates, i * tokens // parts, (i + 1) * tokens // parts)

    return lambda: loop(hidden, key, gain, hidden.dtype.type(1e-6), gates, 4 * threads.thread_count())


def measure(variant: str, tokens: int, width: int) -> dict[str, float]:
    """Seconds of the product, of the kernel, and of both alternating."""
    rng = np.random.default_rng(0)
    memory, weight, hidden = (rng.standard_normal(shape, dtype=np.float32) for shape in (
        (tokens, width // 2), (width // 2, 4 * width), (tokens, 4, width)))
    key, gates = np.empty((tokens, 4 * width), np.float32), np.empty((tokens, 4), np.float32)
    kernel = gate_kernel(variant, hidden, key.reshape(hidden.shape), gates)

    def product() -> object:
        return np.matmul(memory, weight, out=key)

    return {"product": median(product), "kernel": median(kernel), "both": median(lambda: (product(), kernel()))}


def main(arguments: list[str]) -> int:
    """Measure each variant in a fresh process and print one line per variant."""
    if arguments[:1] == ["--variant"]:
        print(json.dumps(measure(arguments[1], *map(int, arguments[2:]))))
        return 0
    sizes = ("16", "32") if "--quick" in arguments else ("256", "2560")
    print(f"{'variant':12}{'product':>12}{'kernel':>12}{'both':>12}{'both / sum':>12}")
    for variant in VARIANTS:
        layer = {} if variant == "own" else {"NUMBA_THREADING_LAYER": variant}
        done = subprocess.run([sys.executable, __file__, "--variant", variant, *sizes], env=os.environ | layer,
                              check=True, capture_output=True, text=True)
        seconds = json.loads(done.stdout)
        shown = "".join(f"{1e3 * seconds[name]:9.2f} ms" for name in ("product", "kernel", "both"))
        print(f"{variant:12}{shown}{seconds['both'] / (seconds['product'] + seconds['kernel']):12.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
