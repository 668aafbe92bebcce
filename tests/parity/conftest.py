"""Run the Triton kernels in Triton's interpreter if there is no GPU.

Triton chooses the interpreter when a kernel is defined. The kernels are therefore imported here, before any other
import of them, with the interpreter enabled. It is disabled afterwards, so that other tests use torch's operations.
"""

import importlib
import importlib.util

import numpy as np
import pytest

INSTALLED = all(importlib.util.find_spec(name) for name in ("torch", "triton"))
SWITCH = ("TRITON_INTERPRET", "1")


def interpreted():
    """Whether Triton is installed but there is no GPU."""
    if not INSTALLED:
        return False
    import torch

    return not torch.cuda.is_available()


if interpreted():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(*SWITCH)
        for name in ("rows", "dequantise", "gate"):
            importlib.import_module(f"engram_ref.backends.torch.kernels.{name}")


@pytest.fixture
def kernels_run(monkeypatch):
    """Make kernels available in this test, and fill the memory of new outputs with NaN.

    Without the fill, a new output may reuse the memory of an earlier result with the same values, which would hide
    elements that a kernel does not write. Torch's deterministic mode fills new tensors. The interpreter's
    overflow warnings are silenced, since a GPU has none.
    """
    if not interpreted():
        yield
        return
    import torch

    monkeypatch.setenv(*SWITCH)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        yield
    torch.use_deterministic_algorithms(before)
