"""A recording namespace: gradients of the module, from its recorded small ops, against torch's autograd.

Every op that computes is replaced by one that records its inputs. A recorded value has no operators, so arithmetic
outside the namespace raises instead of losing a gradient.
"""

import dataclasses
import inspect
import math

import numpy as np
import pytest

from engram_ref import ops, preset
from engram_ref.backends import load, replace
from engram_ref.ops.namespace import FIXED, NUMPY
from scripts.builders.small_modules import DIALECTS, random_inputs, random_parameters

CONFIGS = (preset("tiny"), *(dataclasses.replace(config, table_codec="fp32") for config in DIALECTS.values()))


class Value:
    """An array, the values that it was computed from, and a function that returns their gradients."""

    __array_ufunc__ = None

    def __init__(self, array, parents=(), back=None):
        self.array, self.parents, self.back = array, parents, back
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim


def bare(x):
    if isinstance(x, list | tuple):
        return type(x)(map(bare, x))
    return x.array if isinstance(x, Value) else x


def recorded(name):
    """Return the op of that name, changed to record its inputs if any of them is a Value."""
    def op(*arguments, **options):
        inputs = inspect.signature(getattr(NUMPY, name)).bind(*arguments, **options).args
        parents = [part for x in inputs for part in (x if isinstance(x, list | tuple) else [x])]
        array = getattr(NUMPY, name)(*map(bare, inputs))
        if not any(isinstance(parent, Value) for parent in parents):
            return array
        if name not in VJPS:
            raise NotImplementedError(f"{name} has no gradient")
        return Value(array, parents, lambda g: VJPS[name](g, *map(bare, inputs)))
    return op


def is_composition(name):
    return "parameters" in inspect.signature(getattr(NUMPY, name)).parameters


TAPE = replace(NUMPY, **{name: recorded(name) for name in set(NUMPY.names()) - FIXED if not is_composition(name)})


def gradients(output, upstream, wanted):
    """For each wanted Value, the sum of upstream * d output / d value."""
    order, seen, result = [], set(), {id(output): upstream}

    def visit(value):
        if isinstance(value, Value) and id(value) not in seen:
            seen.add(id(value))
            for parent in value.parents:
                visit(parent)
            order.append(value)

    visit(output)
    for value in reversed(order):
        if value.back is not None and id(value) in result:
            for parent, g in zip(value.parents, value.back(result[id(value)]), strict=False):
                if isinstance(parent, Value) and g is not None:
                    result[id(parent)] = result.get(id(parent), 0) + g
    return [result.get(id(value), np.zeros_like(value.array)) for value in wanted]


def summed(g, shape):
    """A gradient summed over the axes along which its input was broadcast."""
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    return g.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1 and g.shape[i] != 1), keepdims=True)


def put(g, like, index):
    """Zeros with the shape of `like`, with g added at `index`."""
    made = np.zeros_like(like)
    np.add.at(made, index, g)
    return made


def linear(g, x, w, b=None):
    flat, rows = g.reshape(-1, g.shape[-1]), x.reshape(-1, x.shape[-1])
    return g @ w, flat.T @ rows, None if b is None else flat.sum(0)


def rms_norm(g, x, gain, eps):
    r = ops.inverse_rms(x, eps)
    u = g * gain
    return r * u - x * r**3 * np.mean(u * x, -1, keepdims=True), summed(g * x * r, gain.shape)


def factored_score(g, h, k, query_gain, key_gain, eps):
    """Gradients of h, k and both gains; the factored score equals the score of the normalised h and k."""
    one = np.ones(h.shape[-1])
    gq, gk = score(g, query_gain * ops.rms_norm(h, one, eps), key_gain * ops.rms_norm(k, one, eps))
    (gh, of_query), (gk, of_key) = rms_norm(gq, h, query_gain, eps), rms_norm(gk, k, key_gain, eps)
    return gh, gk, of_query, of_key


def score(g, q, k):
    return g[..., None] * k / math.sqrt(q.shape[-1]), g[..., None] * q / math.sqrt(q.shape[-1])


def gate(g, s, form, dead=None):
    large, size = np.abs(s) > 1e-6, np.maximum(np.abs(s), 1e-6)
    slope = 1 if form == "sigmoid" else np.where(large, 0.5 / np.sqrt(size), 0)
    alpha = ops.gate(s, form)
    result = g * alpha * (1 - alpha) * slope
    return (result if dead is None else np.where(dead[..., None], 0, result),)


def conv_silu(g, x, w, dilation, taps):
    T, span, seen = x.shape[1], taps.shape[1], np.concatenate([taps, x], 1)
    y = ops.short_conv(x, w, dilation, taps)
    s = ops.sigmoid(y)
    u, of_seen = g * (s + y * s * (1 - s)), np.zeros_like(seen)
    parts = [slice(j * dilation, j * dilation + T) for j in range(w.shape[-1])]
    for j, part in enumerate(parts):
        of_seen[:, part] += w[..., j] * u
    of_w = np.stack([(u * seen[:, part]).sum((0, 1)) for part in parts], -1)
    return of_seen[:, span:], of_w, None, of_seen[:, :span]


VJPS = {
    "linear": linear, "rms_norm": rms_norm, "factored_score": factored_score, "score": score, "gate": gate,
    "conv_silu": conv_silu, "apply_gate": lambda g, a, v: ((g * v[:, :, None]).sum(-1), (g * a[..., None]).sum(2)),
    "add": lambda g, x, y: (g, g), "stack": lambda g, arrays, axis: list(np.moveaxis(g, axis, 0)),
    "effective_gain": lambda g, w, form: (g,), "concatenate": lambda g, x: (g.reshape(x.shape),),
    "gather": lambda g, table, rows, offsets: (put(g, table, rows + offsets),), "decode": lambda g, x, *_: (g,),
    "take": lambda g, x, index: (put(g, x, index),), "tail": lambda g, x, count: (None,),
}


def module(namespace, parameters, hidden, rows, taps, dead, config):
    memory = namespace.gather_decode(parameters, rows, config, np.float64)
    return namespace.gated_update(parameters, memory, hidden, taps, dead, config, 2)[0]


def inputs(config):
    rng = np.random.default_rng(3)
    parameters = random_parameters(config, rng)
    hidden, rows = random_inputs(config, rng)
    taps = rng.standard_normal((len(hidden), config.conv_span, *hidden.shape[2:]))
    return parameters, hidden, rows, taps, rng.random(rows.shape[:2]) < 0.2, rng.standard_normal(hidden.shape)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
def test_recorded_gradients_match_autograd(config):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    parameters, hidden, rows, taps, dead, upstream = inputs(config)
    named = {name: array for name, array in parameters.items() if array.dtype == np.float64}
    named |= {"hidden": hidden, "taps": taps}

    # gradients through the recorded ops
    values = {name: Value(array) for name, array in named.items()}
    Y = module(TAPE, parameters | values, values["hidden"], rows, values["taps"], dead, config)
    result = dict(zip(values, gradients(Y, upstream, values.values()), strict=True))

    # gradients of autograd through the torch backend
    tensors = {name: torch.tensor(array, requires_grad=True) for name, array in named.items()}
    given = {name: torch.tensor(array) for name, array in parameters.items()} | tensors
    expected = module(load("torch"), given, tensors["hidden"], torch.tensor(rows), tensors["taps"], torch.tensor(dead),
                      config)
    assert np.abs(Y.array - expected.detach().numpy()).max() < 1e-10
    expected.backward(torch.tensor(upstream))
    for name, tensor in tensors.items():
        g = np.zeros(tensor.shape) if tensor.grad is None else tensor.grad.numpy()
        assert np.abs(result[name] - g).max(initial=0) <= 1e-10 * max(1.0, np.abs(g).max(initial=0)), name
    assert np.abs(result["table"]).max() > 0 and np.abs(result["hidden"]).max() > 0


def test_arithmetic_on_a_recorded_value_raises():
    x = Value(np.ones(3))
    for arithmetic in (lambda: x + 1, lambda: np.ones(3) * x, lambda: x @ x, lambda: x[0]):
        with pytest.raises(TypeError):
            arithmetic()


def test_an_op_without_a_gradient_raises():
    with pytest.raises(NotImplementedError, match="windows has no gradient"):
        TAPE.windows(Value(np.zeros((1, 2), dtype=np.int64)), np.zeros((1, 1), dtype=np.int64), 0)
    assert (TAPE.sigmoid(np.zeros(2)) == 0.5).all()
