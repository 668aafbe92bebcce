"""Collect doctests from every module, except those that need a missing package."""

import importlib.util

NEEDS = {
    "numba": ("engram_ref/backends/numba/*", "engram_ref/bench/*", "tests/parity/numba_kernels.py"),
    "torch": ("engram_ref/backends/torch/*", "tests/torch_cases.py"),
    "triton": ("engram_ref/backends/torch/kernels/*",),
}

collect_ignore_glob = [pattern for package, patterns in NEEDS.items() for pattern in patterns
                       if importlib.util.find_spec(package) is None]

collect_ignore = ["tests/without_numba.py"]     # a plugin that blocks the import of Numba
