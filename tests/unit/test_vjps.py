"""Every gradient against central differences in float64, for one small call of each op.

Along a direction d, <gradient, d> must equal (L(x + h d) - L(x - h d)) / 2h for the loss L = <upstream, result>. The
difference has a truncation error of order h^2, estimated by comparing the steps h and 2h, and a rounding error of about
u * (sum of |upstream * result|) / h.
"""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest

from engram_ref.backends.tape import NAMESPACE, Value, gradients, is_leaf, tape
from engram_ref.errors import InputError
from engram_ref.ops.namespace import FIXED, NUMPY
from engram_ref.ops.vjp import WITHOUT
from engram_ref.ops.vjp.basic import BasicVjp
from engram_ref.ops.vjp.tables import RowGradient
from tests.op_cases import op_of
from tests.op_cases_floats import BACKBONE, BASIC, EXPERTS, MODULE

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


@pytest.mark.parametrize("name", CASES)
def test_gradients_keep_dtype_and_inputs(name):
    case, rng = CASES[name], np.random.default_rng(3)
    arguments = changed(case.arrays(rng, 2, 3), lambda _, x: x.astype(np.float32))
    before = copy.deepcopy(arguments)
    upstreams = [rng.standard_normal(y.shape).astype(np.float32) for y in outputs(case.call(NUMPY, *arguments))]
    values = {place: Value(array) for place, array in leaves(arguments)}
    outs = outputs(case.call(NAMESPACE, *changed(arguments, lambda place, _: values[place])))
    for output, upstream in zip(outs, upstreams, strict=True):
        if isinstance(output, Value):
            found = gradients(output, upstream, values)
            assert {(g.values if isinstance(g, RowGradient) else g).dtype for g in found.values()} == {np.dtype("f4")}
            break
    np.testing.assert_equal(arguments, before)


@pytest.mark.parametrize("name", CASES)
def test_no_tokens(name):
    case, rng = CASES[name], np.random.default_rng(3)
    arguments = case.arrays(rng, 2, 0)
    found = recorded_gradients(case, arguments, outputs(case.call(NUMPY, *arguments)))
    assert all(g.shape == array.shape for (_, array), g in zip(leaves(arguments), found.values(), strict=True))


def test_every_op_has_a_gradient_or_is_listed_as_having_none():
    """Compositions need neither: the tape records the ops that they call."""
    own = {name for name in NUMPY.names() if f"{name}_vjp" in NUMPY.names()}
    assert not own & WITHOUT
    recorded = {name for name in NUMPY.names() if name not in FIXED and not name.endswith("_vjp")
                and is_leaf(NUMPY, name)}
    assert recorded - own == WITHOUT


# conventions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ["signed_sqrt", "copysign_sqrt"])
def test_slope_of_the_roots(op):
    """Flat inside the clamp; at its edge and beyond, 0.5 / sqrt|s|, for both signs."""
    s = np.array([0.0, -0.0, 9e-7, -9e-7, 1e-6, -1e-6, 0.25, -0.25, np.nan])
    (slope,) = getattr(NUMPY, f"{op}_vjp")(np.ones(9), s)
    assert slope[:8].tolist() == [0, 0, 0, 0, 0.5 / math.sqrt(1e-6), 0.5 / math.sqrt(1e-6), 1, 1]
    assert np.isnan(slope[8])


def test_roundings_pass_gradients_straight_through(rng):
    x, upstream = rng.standard_normal((2, 32)), rng.standard_normal((2, 32))
    for vjp in (NUMPY.round_bf16_vjp, NUMPY.requantise_vjp):
        np.testing.assert_array_equal(vjp(upstream, x)[0], upstream)


def test_dead_positions_and_experts_not_chosen_have_no_gradient(rng):
    dead = np.array([[True, False, True]])
    of_alpha, _ = NUMPY.zero_dead_vjp(np.ones((1, 3, 2)), rng.random((1, 3, 2)), dead)
    assert of_alpha[0].tolist() == [[0, 0], [1, 1], [0, 0]]
    chosen, scores = np.array([[0, 2]]), rng.random((1, 4))
    of_scores, *_ = NUMPY.expert_weights_vjp(rng.standard_normal((1, 2)), scores, chosen, EXPERTS)
    assert of_scores[0, [1, 3]].tolist() == [0, 0] and of_scores[0, [0, 2]].all()


def test_a_single_normalised_weight_gives_the_router_no_gradient(rng):
    """With one expert per token, its weight is constant."""
    config = replace(EXPERTS, num_experts_per_tok=1)
    of_scores, *_ = NUMPY.expert_weights_vjp(rng.standard_normal((5, 1)), rng.random((5, 5)), np.arange(5)[:, None],
                                             config)
    assert np.abs(of_scores).max() <= 2.0**-50


def test_nan_stays_in_its_token(rng):
    x, gain, upstream = rng.standard_normal((3, 4)), rng.standard_normal(4), rng.standard_normal((3, 4))
    x[1, 2] = np.nan
    of_x, of_gain, _ = NUMPY.rms_norm_vjp(upstream, x, gain, 1e-6)
    assert np.isnan(of_x[1]).all() and np.isfinite(of_x[[0, 2]]).all() and np.isnan(of_gain).all()


# the tape ----------------------------------------------------------------------------------------------


def recorded_loss():
    """A parameter and the value of a small computation."""
    x = Value(np.array([[1.0, 2.0]]))
    return x, NAMESPACE.silu(NAMESPACE.multiply(2.0, x))


def test_a_record_is_used_once():
    x, y = recorded_loss()
    gradients(y, np.ones((1, 2)), {"x": x})
    with pytest.raises(InputError, match="output: expected a record that was not used before"):
        gradients(y, np.ones((1, 2)), {"x": x})


def test_an_array_that_was_overwritten_is_refused():
    x, y = recorded_loss()
    x.array[0, 0] = 3.0
    with pytest.raises(InputError, match="value x: expected the array that the model read"):
        gradients(y, np.ones((1, 2)), {"x": x})


def test_upstream_of_another_shape_is_refused():
    x, y = recorded_loss()
    with pytest.raises(InputError, match="upstream: expected the shape of output"):
        gradients(y, np.ones(2), {"x": x})


def test_a_gradient_that_is_not_finite_names_parameter_and_op():
    """With eps 0, 1 / rms(x) is 1e110, but its slope contains the third power."""
    x, gain = Value(np.full((1, 2), 1e-110)), Value(np.ones(2))
    y = NAMESPACE.multiply(gain, NAMESPACE.inverse_rms(x, 0.0))
    with np.errstate(all="ignore"), pytest.raises(InputError) as error:
        gradients(y, np.ones((1, 2)), {"x": x, "gain": gain}, check_values=True)
    assert error.value.argument == "gradient of parameter x" and "the VJP of inverse_rms" in error.value.found


def test_an_op_without_a_gradient_names_itself(monkeypatch):
    monkeypatch.delattr(BasicVjp, "exp_vjp")
    with pytest.raises(InputError, match="op exp: expected an op with a gradient"):
        tape(NUMPY).exp(Value(np.ones(2)))


@pytest.mark.parametrize("operation", [lambda x: x + 1, lambda x: 2 * x, np.exp, np.asarray],
                         ids=["add", "multiply", "ufunc", "array"])
def test_arithmetic_outside_the_namespace_raises(operation):
    with pytest.raises(TypeError):
        operation(Value(np.ones((2, 2))))


def test_a_slice_of_a_value_has_a_gradient():
    x = Value(np.arange(6.0).reshape(2, 3))
    y = NAMESPACE.add(x[:, 1:], x[[1, 1], 0][0])
    assert gradients(y, np.ones((2, 2)), {"x": x})["x"].tolist() == [[0, 1, 1], [4, 1, 1]]


def test_a_value_that_was_not_used_has_a_zero_gradient():
    _, y = recorded_loss()
    unused = Value(np.ones(3))
    assert gradients(y, np.ones((1, 2)), {"unused": unused})["unused"].tolist() == [0, 0, 0]
