"""Mixed dialects on the Triton kernels, wherever the torch backend uses them; the bounds are in tests/enclosures.py."""

import pytest

from tests.mixed_dialects import CASES, SEED, module_case, reproducible, rows_case
from tests.properties.test_mixed_dialects import check_module, check_rows

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("triton", reason="triton is not installed")
from engram_ref.backends import torch as torch_ops

pytestmark = pytest.mark.usefixtures("kernels_run")
NUMBERS = pytest.mark.parametrize("number", range(0, CASES, 5), ids=lambda number: f"seed {SEED} case {number}")


@NUMBERS
def test_rows(number):
    with reproducible(number):
        check_rows(rows_case(number), torch_ops)


@NUMBERS
def test_module(number):
    with reproducible(number):
        check_module(module_case(number, score_form="factored", gate_form="copysign_sqrt"), torch_ops)
