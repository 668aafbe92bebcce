"""Collect doctests from every module, except those that need a missing package."""

import functools
import importlib.util
import os
import tempfile

import pytest

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
        "test_*_properties.py", "test_mixed_dialects.py", "test_testing_*.py", "test_kit*.py", "test_lab_runs.py",
        "test_lab_measures.py")
"""Test files that take seconds, mostly because they start processes. `-m "not slow"` deselects them (.ci/quick)."""

THOROUGH = ("test_diagnose.py", "test_noise.py", "test_kill_matrix.py", "test_c_port.py", "test_bugs.py",
            "test_testing_streaming.py", "test_testing_checks.py", "test_testing_plugin.py", "test_liveness.py",
            "test_python_page.py", "test_cli_which_dialect.py", "test_lab_gain.py")
"""Test files that try hundreds of wrong ports, or train models. They take minutes and run only with `--thorough`, as in
.ci/run."""


def pytest_addoption(parser):
    """Add the option that runs the thorough tests, too."""
    parser.addoption("--thorough", action="store_true", help="also run the tests that try hundreds of wrong ports")


def pytest_configure(config):
    """Prepare the environment of the worker processes and of the commands that tests start.

    They share their compiled kernels, in a folder that is deleted at the end. Each computes with one thread, unless
    OMP_NUM_THREADS is set: more threads per worker than processors slow each other down.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if not os.environ.get("ENGRAM_REF_JIT_CACHE"):
        folder = tempfile.TemporaryDirectory(prefix="kernels-")
        os.environ["ENGRAM_REF_JIT_CACHE"] = folder.name
        config.add_cleanup(folder.cleanup)


def pytest_collection_modifyitems(config, items):
    """Mark the tests of slow and of thorough files; the latter are skipped unless they are asked for."""
    matches = functools.cache(lambda path, patterns: any(path.match(pattern) for pattern in patterns))
    for item in items:
        if matches(item.path, SLOW):
            item.add_marker("slow")
        if matches(item.path, THOROUGH) or item.get_closest_marker("thorough"):
            item.add_marker("thorough")
            if not config.getoption("--thorough"):
                item.add_marker(pytest.mark.skip(reason="run with --thorough"))
