"""Collect doctests from every module, except those that need a missing package."""

import importlib.util

NEEDS = {
    "numba": ("engram_ref/backends/numba/*", "engram_ref/bench/*", "tests/parity/numba_kernels.py"),
    "torch": ("engram_ref/backends/torch/*", "tests/torch_cases.py"),
    "triton": ("engram_ref/backends/torch/kernels/*",),
}

collect_ignore_glob = [pattern for package, patterns in NEEDS.items() for pattern in patterns
                       if importlib.util.find_spec(package) is None]

collect_ignore = ["tests/without_numba.py", "tests/typing"]      # a plugin that blocks Numba; a program for mypy

SLOW = ("mutants.py", "test_cli*.py", "test_verify_cli.py", "test_namespace.py", "test_packages.py", "test_pickling.py",
        "test_vocabulary_files.py", "test_quantise.py", "test_unicode.py", "test_rounding.py", "test_decode_state.py",
        "test_*_properties.py", "test_mixed_dialects.py", "test_testing_*.py", "test_kit*.py")
"""Test files that take seconds, mostly because they start processes. `-m "not slow"` deselects them (.ci/quick)."""


def pytest_collection_modifyitems(items):
    """Mark the tests of slow files."""
    for item in items:
        if any(item.path.match(pattern) for pattern in SLOW):
            item.add_marker("slow")
