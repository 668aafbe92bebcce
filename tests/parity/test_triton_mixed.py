"""Mixed dialects with the torch backend and its Triton kernels; the error bounds are in tests/enclosures.py."""

import pytest

from tests.mixed_dialects import CASES, SEED, module_case, reproducible, rows_case
from tests.properties.test_mixed_dialects import check_module, check_rows, tensor

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("triton", reason="triton is not installed")
from engram_ref.backends import torch as torch_ops  # noqa: E402  needs torch

pytestmark = pytest.mark.usefixtures("kernels_run")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
EVERY_FIFTH_CASE = pytest.mark.parametrize("number", range(0, CASES, 5), ids=lambda n: f"seed {SEED} case {n}")


def on_device(array):
    return tensor(array).to(DEVICE)


@EVERY_FIFTH_CASE
def test_rows_of_mixed_dialects(number):
    with reproducible(number):
        check_rows(rows_case(number), torch_ops, on_device)


@EVERY_FIFTH_CASE
def test_modules_of_mixed_dialects(number):
    """Use only forms with a kernel; all other fields are drawn at random."""
    with reproducible(number):
        case = module_case(number, score_form="factored", gate_form="copysign_sqrt")
        check_module(case, torch_ops, on_device)
