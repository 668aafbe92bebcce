"""Where there is no GPU, Triton's interpreter runs the kernels.

Triton decides when a kernel is defined, so the kernels are imported here, before anything else imports them, with the
interpreter switched on; it is off again afterwards, so that other tests take torch's operations.
"""

import importlib
import importlib.util

import numpy as np
import pytest

INSTALLED = all(importlib.util.find_spec(name) for name in ("torch", "triton"))
SWITCH = ("TRITON_INTERPRET", "1")


def interpreted():
    """Is there Triton, but no GPU to run it on?"""
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
    """Kernels are available in this test, and what the interpreter leaves unwritten is no number.

    An output may be given the memory of one just like it, with the answers still in place; torch's deterministic
    mode fills it first. The interpreter's overflows are silent, as a GPU's are.
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
