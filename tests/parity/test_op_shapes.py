"""Every backend raises if an axis has length 1 instead of the length that the op needs, although it would broadcast."""

import importlib.util

import numpy as np
import pytest

from engram_ref import InputError, backends
from tests.op_cases import op_of
from tests.op_cases_floats import CASES

CHECKED = {"add_residual": (0, 1), "apply_gate": (1,), "conv_silu": (1, 2), "factored_score": (1, 2, 3), "gate": (1,),
           "gather": (2,), "linear": (1, 2), "mark_dead": (1,), "mix": (1,), "rotate": (1,), "score": (1,),
           "short_conv": (1, 2), "stepper": (1,), "windows": (1,), "write_single": (1,)}
"""Op -> the arguments that are compared with the first."""

FREE = {("apply_gate", 1, 2), ("linear", 1, 0), ("windows", 1, 1), ("short_conv", 1, 2), ("conv_silu", 1, 2)}
"""(op, argument, axis) whose length is not determined by other arguments: outputs, the window, the kernel."""


def narrowed():
    """(case, argument, axis) of every axis longer than 1 of every checked argument."""
    for name, case in CASES.items():
        arrays = case.arrays(np.random.default_rng(0), 2, 5)
        for argument in CHECKED.get(op_of(name), ()):
            shape = arrays[argument].shape if argument < len(arrays) else ()
            yield from ((name, argument, axis) for axis, length in enumerate(shape)
                        if length > 1 and (op_of(name), argument, axis) not in FREE)


def test_every_checked_op_has_a_case():
    assert {op_of(name) for name, _, _ in narrowed()} == set(CHECKED)


@pytest.mark.parametrize(("name", "argument", "axis"), list(narrowed()))
def test_an_axis_of_length_1_raises(name, argument, axis):
    case = CASES[name]
    for backend in filter(importlib.util.find_spec, backends.BACKENDS):
        ops = backends.load(backend)
        arrays = list(case.arrays(np.random.default_rng(0), 2, 5))
        case.call(ops, *(ops.as_array("x", array) for array in arrays))
        arrays[argument] = arrays[argument].take([0], axis)
        with pytest.raises(InputError, match="shape"):
            case.call(ops, *(ops.as_array("x", array) for array in arrays))
