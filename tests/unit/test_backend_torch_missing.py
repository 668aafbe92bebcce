"""Without torch, the torch backend raises with an install hint, and NumPy still works."""

import subprocess
import sys
from pathlib import Path

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
import engram_ref
try:
    import engram_ref.backends.torch
except engram_ref.InputError as error:
    print(error)
print(engram_ref.Addressing(engram_ref.preset("tiny")).rows([1, 2], 1).shape)
"""


def test_missing_torch_raises_and_numpy_still_works():
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, check=True,
                          cwd=Path(__file__).parents[2])
    message, shape = done.stdout.splitlines()
    assert message.startswith("backend torch: expected an installed package torch, found none (pip install "
                              "'engram_ref[torch]'; the NumPy backend works without it")
    assert shape.startswith("(2, ")
