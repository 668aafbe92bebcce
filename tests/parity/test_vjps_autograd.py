"""Every gradient against torch autograd in float64: of the torch backend, and of plain torch that shares no code.

Bound. A computed gradient is the exact one of inputs changed by about n u relatively, with u = 2^-53 and n the number
of roundings on the longest path: the case's forward terms, plus the sum over tokens in the backward direction. What
such a change does is measured: inputs are changed by 2^-30 relatively, and the largest change of the gradient, divided
by 2^-30, is its condition. Both sides err, hence the factor 2.
"""

import numpy as np
import pytest

from engram_ref.backends import load
from engram_ref.ops.namespace import NUMPY
from tests.unit.test_vjps import CASES, POSITIONS, changed, leaves, op_of, outputs, recorded_gradients

torch = pytest.importorskip("torch")
U, PROBE, SAMPLES = 2.0**-53, 2.0**-30, 4


def setup(name, shape=(2, 5)):
    """Return the case, its arguments, an upstream gradient per output, and the random numbers."""
    case, rng = CASES[name], np.random.default_rng(11)
    arguments = case.arrays(rng, *shape)
    ups = [rng.standard_normal(y.shape) for y in outputs(case.call(NUMPY, *arguments))]
    return case, arguments, ups, rng


def bounds(case, arguments, ups, found, rng):
    """Return {place: largest difference of two correct gradients}."""
    n = (case.terms or 1) + max((u.size for u in ups), default=1)
    sizes = {place: np.abs(g).max(initial=0) for place, g in found.items()}
    condition = dict.fromkeys(found, 0.0)
    for _ in range(SAMPLES):
        near = changed(arguments, lambda place, x: x * (1 + PROBE * rng.choice((-1.0, 1.0), x.shape)))
        for place, g in recorded_gradients(case, near, ups).items():
            condition[place] = max(condition[place], np.abs(g - found[place]).max(initial=0) / PROBE)
    return {place: 2 * n * U * (sizes[place] + condition[place]) for place in found}


def tensors(arguments):
    """Return the arguments as tensors, and by place those of floats, for which gradients are recorded."""
    as_tensor = lambda x: {k: as_tensor(v) for k, v in x.items()} if isinstance(x, dict) else torch.from_numpy(x.copy())
    result = [as_tensor(x) for x in arguments]
    at = lambda i, *key: result[i][key[0]] if key else result[i]
    return result, {place: at(*place).requires_grad_() for place, _ in leaves(arguments)}


def tensor_outputs(result):
    results = result if isinstance(result, tuple) else (result,)
    return [y for y in results if y is not None and y.is_floating_point()]


def compare(name, call):
    """Compare the gradients of a case with those that autograd finds for the results of call(*tensors)."""
    case, arguments, ups, rng = setup(name)
    found = recorded_gradients(case, arguments, ups)
    bound = bounds(case, arguments, ups, found, rng)
    inputs, given = tensors(arguments)
    total = sum((torch.from_numpy(u) * y).sum() for u, y in zip(ups, tensor_outputs(call(*inputs)), strict=True))
    exact = torch.autograd.grad(total, list(given.values()), allow_unused=True, materialize_grads=True)
    for place, g in zip(given, exact, strict=True):
        if place != (POSITIONS.get(op_of(name)),):
            assert np.abs(found[place] - g.numpy()).max(initial=0) <= bound[place], place


@pytest.mark.parametrize("name", CASES)
def test_gradient_equals_autograd(name):
    compare(name, lambda *inputs: CASES[name].call(load("torch").small, *inputs))


def plain_sinkhorn(x):
    m = (x - x.max(-2, keepdim=True).values).exp()
    for _ in range(7):
        m = m / m.sum(-2, keepdim=True)
        m = m / m.sum(-1, keepdim=True)
    return m


def plain_conv(x, w, taps):
    both = torch.cat([taps, x], 1)
    return sum(w[..., k] * both[:, 3 * k : 3 * k + x.shape[1]] for k in range(4))


F = torch.nn.functional
PLAIN = {
    "rms_norm": lambda x, g: g * x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt(),
    "gate sigmoid": lambda s, dead: torch.where(dead[..., None], 0.0, torch.sigmoid(s)),
    "signed_sqrt": lambda s: s.abs().clamp(min=1e-6).sqrt() * s.sign(),
    "short_conv": plain_conv,
    "softmax without a mask": lambda x: F.softmax(x, -1),
    "swiglu": lambda x, w1, w2, w3: (F.silu(x @ w1.T) * (x @ w3.T)) @ w2.T,
    "cross_entropy": lambda x, t: F.cross_entropy(x.movedim(-1, 1), t, reduction="none"),
    "sinkhorn": plain_sinkhorn,
}


@pytest.mark.parametrize("name", PLAIN)
def test_gradient_equals_autograd_of_plain_torch(name):
    compare(name, PLAIN[name])
