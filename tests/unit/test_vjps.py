"""Every gradient against central differences in float64, for one small call of each op.

Along a direction d, <gradient, d> must equal (L(x + h d) - L(x - h d)) / 2h for the loss L = <upstream, result>. The
difference has a truncation error of order h^2, estimated by comparing the steps h and 2h, and a rounding error of about
u * (sum of |upstream * result|) / h.
"""

import numpy as np
import pytest

from engram_ref.backends.tape import NAMESPACE, Value, gradients
from engram_ref.ops.namespace import NUMPY
from engram_ref.ops.vjp import WITHOUT
from engram_ref.ops.vjp.tables import RowGradient
from tests.op_cases import op_of
from tests.op_cases_floats import BACKBONE, BASIC, MODULE

CASES = {name: case for name, case in (BASIC | MODULE | BACKBONE).items() if op_of(name) not in (*WITHOUT, "cast")}
STEP = 2.0**-15

POSITIONS = {"rotate": 1, "queries": 2, "latents": 2, "mla": 2}
"""Ops with the place of an argument that has no gradient: the angles of the positions."""


def leaves(arguments):
    """Return (place, array) of every float array in a case's arguments; place is a path of indices and names."""
    for i, x in enumerate(arguments):
        if isinstance(x, dict):
            yield from (((i, name), array) for name, array in x.items() if array.dtype.kind == "f")
        elif x.dtype.kind == "f":
            yield (i,), x


def changed(arguments, change):
    """Return the arguments with change(place, array) in place of every float array."""
    result = [dict(x) if isinstance(x, dict) else x for x in arguments]
    for place, array in leaves(arguments):
        if len(place) == 1:
            result[place[0]] = change(place, array)
        else:
            result[place[0]][place[1]] = change(place, array)
    return result


def moved(arguments, direction, step):
    """Return arguments + step * direction."""
    return changed(arguments, lambda place, x: x + step * direction[place])


def outputs(result):
    results = result if isinstance(result, tuple) else (result,)
    return [x for x in results if x is not None and x.dtype.kind == "f"]


def recorded_gradients(case, arguments, upstreams):
    """Return {place: gradient} of the sum of <upstream, output>."""
    values = {place: Value(array) for place, array in leaves(arguments)}
    found = {place: np.zeros(value.shape) for place, value in values.items()}
    for i, upstream in enumerate(upstreams):
        outs = outputs(case.call(NAMESPACE, *changed(arguments, lambda place, _: values[place])))
        if isinstance(outs[i], Value):
            for place, g in gradients(outs[i], upstream, values).items():
                found[place] = found[place] + (g.dense() if isinstance(g, RowGradient) else g)
    return found


def loss(case, arguments, upstreams):
    """Return <upstream, output> summed over outputs, and the same of absolute values."""
    outs = outputs(case.call(NUMPY, *arguments))
    terms = [u * y for u, y in zip(upstreams, outs, strict=True)]
    return sum(t.sum() for t in terms), sum(np.abs(t).sum() for t in terms)


@pytest.mark.parametrize("shape", [(2, 5), (1, 1)], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_gradient_equals_central_differences(name, shape):
    case, rng = CASES[name], np.random.default_rng(7)
    arguments = case.arrays(rng, *shape)
    upstreams = [rng.standard_normal(y.shape) for y in outputs(case.call(NUMPY, *arguments))]
    found = recorded_gradients(case, arguments, upstreams)
    constant = (POSITIONS.get(op_of(name)),)
    for _ in range(3):
        direction = {place: np.zeros(array.shape) if place == constant else rng.standard_normal(array.shape)
                     for place, array in leaves(arguments)}
        losses = {k: loss(case, moved(arguments, direction, k * STEP), upstreams) for k in (-2, -1, 1, 2)}
        fine, coarse = ((losses[k][0] - losses[-k][0]) / (2 * k * STEP) for k in (1, 2))
        gradient = sum(np.sum(found[place] * d) for place, d in direction.items())
        size = max(magnitude for _, magnitude in losses.values())
        bound = abs(fine - coarse) + 64 * 2.0**-53 * size / STEP
        assert abs(gradient - fine) <= bound, (gradient, fine, bound)
