"""VJPs against torch's forward-mode differentiation, and against the gradients of the authors' demo.

For directions d of the inputs and upstream u of the results, <u, J d> and <J^T u, d> are the same number. Forward mode
gives J d from torch's own formulas; our VJP gives J^T u. Both are exact for inputs changed by n roundings; `bounds` of
test_vjps_autograd.py measures what such changes do to each element of J^T u, on both sides, which is multiplied by |d|
here. Each product and each addition of the two sums adds one rounding.
"""

import numpy as np
import pytest

from engram_ref.backends.tape import NAMESPACE, Value, as_value, gradients
from engram_ref.model.engram import engram
from engram_ref.model.parameters import from_engram_demo
from engram_ref.ops.vjp.tables import RowGradient
from tests.op_cases import op_of
from tests.unit.test_module import recorded
from tests.unit.test_vjps import CASES, POSITIONS, changed, leaves, recorded_gradients

torch = pytest.importorskip("torch", reason="torch is not installed")
from engram_ref.backends import torch as torch_ops  # noqa: E402  needs torch
from tests.parity.test_vjps_autograd import PROBE, U, bounds, setup  # noqa: E402
from tests.torch_cases import tensor  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")      # of forward mode itself
STRAIGHT_THROUGH = {"round_bf16", "requantise"}
"""Ops whose gradient passes a rounding unchanged, by convention: forward mode has no such convention."""


def forward_mode(case, arguments, direction):
    """Return J d for every float result, by torch.func.jvp."""
    places = list(direction)
    fixed = {i: tensor(x) for i, x in enumerate(arguments) if not isinstance(x, dict) and x.dtype.kind != "f"}

    def run(*tensors):
        given = dict(zip(places, tensors, strict=True))
        filled = changed(arguments, lambda place, _: given[place])
        results = case.call(torch_ops, *(fixed.get(i, x) for i, x in enumerate(filled)))
        return tuple(y for y in (results if isinstance(results, tuple) else (results,)) if y.is_floating_point())

    arrays = dict(leaves(arguments))
    _, tangents = torch.func.jvp(run, tuple(torch.tensor(arrays[place]) for place in places),
                                 tuple(torch.tensor(d) for d in direction.values()))
    return [t.numpy() for t in tangents]


@pytest.mark.parametrize("shape", [(2, 5), (1, 1)], ids=str)
@pytest.mark.parametrize("name", [name for name in CASES if op_of(name) not in STRAIGHT_THROUGH])
def test_vjp_is_the_transpose_of_forward_mode(name, shape):
    case, arguments, upstreams, rng = setup(name, shape)
    constant = (POSITIONS.get(op_of(name)),)
    direction = {place: (0.0 if place == constant else 1.0) * rng.standard_normal(array.shape)
                 for place, array in leaves(arguments)}
    found = recorded_gradients(case, arguments, upstreams)
    ahead = [u * t for u, t in zip(upstreams, forward_mode(case, arguments, direction), strict=True)]
    back = [found[place] * d for place, d in direction.items()]
    products = np.concatenate([part.ravel() for part in (*ahead, *back)])
    difference = abs(sum(part.sum() for part in ahead) - sum(part.sum() for part in back))
    bound = bounds(case, arguments, upstreams, found, rng)
    through_vjp = sum(bound[place] * np.abs(d).sum() for place, d in direction.items())
    assert difference <= products.size * U * np.abs(products).sum() + through_vjp


def gradients_of_demo(parameters, hidden, known, config):
    """Return dense gradients by name, also of the hidden states."""
    values = {name: as_value(x) for name, x in parameters.items()}
    wanted = {name: x for name, x in values.items() if isinstance(x, Value)} | {"hidden": as_value(hidden)}
    Y = engram(values, wanted["hidden"], known["rows"], config, ops=NAMESPACE)
    found = gradients(Y, known["d_output"], wanted)
    return {name: g.dense() if isinstance(g, RowGradient) else g for name, g in found.items()}


def test_the_gradients_of_the_demo_are_met():
    """Two correct gradients differ by n u (largest element + condition): n roundings on the longest path, which sums
    over memory, channels of both norms, taps and all tokens. The condition is measured as in test_vjps_autograd.py.
    """
    config, state_dict, known = recorded()
    parameters, rng = from_engram_demo(state_dict, config), np.random.default_rng(2)
    found = gradients_of_demo(parameters, known["hidden"], known, config)
    shaken = lambda x: x * (1 + PROBE * rng.choice((-1.0, 1.0), x.shape)) if x.dtype.kind == "f" else x
    near = gradients_of_demo({n: shaken(x) for n, x in parameters.items()}, shaken(known["hidden"]), known, config)
    theirs = {name.removeprefix("gradients."): x for name, x in known.items() if name.startswith("gradients.")}
    expected = from_engram_demo(theirs, config) | {"hidden": known["d_hidden"]}
    n = config.memory_width + 3 * config.hidden_size + config.conv_kernel + known["input_ids"].size
    for name, gradient in found.items():
        condition = np.abs(near[name] - gradient).max() / PROBE
        bound = 2 * n * 2.0**-53 * (np.abs(gradient).max() + condition)
        assert np.abs(gradient - expected[name]).max() <= bound < 1e-11 * np.abs(gradient).max(), name
    assert set(found) == set(expected) - {"column_offsets"}
