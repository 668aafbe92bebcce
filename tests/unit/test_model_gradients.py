"""Gradients of whole models and of the recorded demo module."""

import numpy as np
import pytest

from engram_ref import engram
from engram_ref.backends.tape import NAMESPACE, Value, gradients
from engram_ref.model.parameters import from_engram_demo
from engram_ref.model.transformer import forward
from engram_ref.ops.vjp.tables import RowGradient
from scripts.builders.small_models import MODELS, random_ids, random_model
from tests.unit.test_module import recorded


def dense(g):
    return g.dense() if isinstance(g, RowGradient) else g


def test_recorded_gradients_are_reproduced():
    config, state_dict, tensors = recorded()
    values = {n: Value(a) if a.dtype.kind == "f" else a for n, a in from_engram_demo(state_dict, config).items()}
    hidden = Value(tensors["hidden"])
    y = engram(values, hidden, tensors["rows"], config, ops=NAMESPACE)
    wanted = {n: v for n, v in values.items() if isinstance(v, Value)} | {"hidden": hidden}
    found = gradients(y, tensors["d_output"], wanted)
    exact = from_engram_demo({n.removeprefix("gradients."): t for n, t in tensors.items()
                              if n.startswith("gradients.")}, config)
    exact = {n: a for n, a in exact.items() if n in wanted} | {"hidden": tensors["d_hidden"]}
    assert exact.keys() == wanted.keys()
    for name, expected in exact.items():
        assert np.abs(dense(found[name]) - expected).max() <= 1e-12 * np.abs(expected).max(), name


@pytest.mark.parametrize("absorbed", [False, True], ids=["expanded", "absorbed"])
@pytest.mark.parametrize("name", MODELS)
def test_gradients_of_models_equal_autograd(name, absorbed):
    """Differences are compared with 256 roundings of 2^-53 times the measured condition of the gradient."""
    torch = pytest.importorskip("torch")
    from engram_ref.backends import load

    config, ids = MODELS[name], random_ids(MODELS[name])
    parameters = random_model(config)
    up = np.random.default_rng(5).standard_normal((*ids.shape, config.backbone.vocab_size))
    found = recorded_model(parameters, ids, config, up, absorbed)
    given = {n: torch.from_numpy(a.copy()) for n, a in parameters.items()}
    for t in given.values():
        if t.is_floating_point():
            t.requires_grad_()
    forward(given, torch.from_numpy(ids), config, ops=load("torch"), absorbed=absorbed).backward(torch.from_numpy(up))
    rng = np.random.default_rng(6)
    near = {n: a * (1 + 2.0**-30 * rng.choice((-1.0, 1.0), a.shape)) if a.dtype.kind == "f" else a
            for n, a in parameters.items()}
    moved = recorded_model(near, ids, config, up, absorbed)
    for n, g in found.items():
        exact = np.zeros(g.shape) if given[n].grad is None else given[n].grad.numpy()
        condition = np.abs(moved[n] - g).max() * 2.0**30
        assert np.abs(g - exact).max() <= 256 * 2.0**-53 * (condition + np.abs(g).max()), n


def recorded_model(parameters, ids, config, up, absorbed):
    """Return the gradients of all float parameters as dense arrays."""
    values = {n: Value(a) if a.dtype.kind == "f" else a for n, a in parameters.items()}
    y = forward(values, ids, config, ops=NAMESPACE, absorbed=absorbed)
    found = gradients(y, up, {n: v for n, v in values.items() if isinstance(v, Value)})
    return {n: dense(g) for n, g in found.items()}
