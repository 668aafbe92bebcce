"""The page about backends: its code runs, its lists are complete, and its thread measurements can be repeated."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engram_ref.backends import BACKENDS, load

pytest.importorskip("numba", reason="numba is not installed")
ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "backends.md").read_text(encoding="utf-8")


def test_the_code_on_the_page_runs():
    space = {}
    blocks = [part.split("```")[0] for part in PAGE.split("```python\n")[1:]]
    for block in blocks:
        exec(block, space)
    assert len(blocks) == 2 and space["rows"].shape == (3, 16)
    assert np.array_equal(space["doubled"].sigmoid(np.zeros(1)), [1.0])


def test_the_design_page_names_ops_that_the_classes_override():
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(Small|Steps|Fused)` \|[^`|]*(?:`(\w+)`)?.*\|$", design, re.M)
    assert rows == [("Small", ""), ("Steps", "rms_norm"), ("Fused", "gather_decode")]
    fused = load("numba")
    assert [type(namespace).__name__ for namespace in (fused.small, fused.steps, fused)] == [name for name, _ in rows]
    for kind, (_, op) in zip((type(fused.steps), type(fused)), rows[1:], strict=True):
        assert op in vars(kind) and op not in vars(kind.__base__)


@pytest.mark.parametrize("name", BACKENDS)
def test_the_page_names_every_backend(name):
    assert f"`engram_ref.backends.{name}`" in PAGE or name == "numpy"


def test_the_page_names_every_fused_kernel():
    kernels = {path.stem for path in (ROOT / "engram_ref/backends/torch/kernels").glob("[a-z]*.py")} - {"blocks"}
    assert kernels == {"rows", "dequantise", "gate"}                     # blocks.py has no kernel
    assert "three compositions" in " ".join(PAGE.split())
    assert "run as fused kernels: rows, gather with FP8 decoding, and the gate" in " ".join(PAGE.split())


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="nothing to measure without the JIT")
def test_the_script_measures_every_thread_implementation():
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, str(ROOT / "scripts" / "threads.py"), "--quick"], capture_output=True,
                          text=True, check=True, env=environment)
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["variant", "own", "omp", "workqueue"]
