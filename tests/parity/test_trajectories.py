"""NumPy, Numba and PyTorch train along the same trajectory from the same seed.

Backends round differently in every step, and pass the differences on. How large they may become is measured: a float64
run may differ from NumPy's by four times what a change of every parameter in its last digit before every step, by a
factor of 1 +- 2^-52, does. A float32 run may be four times as far from NumPy's float64 run as PyTorch's is. Four is the
factor of all such comparisons.
"""

from functools import cache

import numpy as np
import pytest

from engram_ref.backends import load
from tests.training import ALL, PLAIN, losses, trainer

FACTOR = 4
BOTH = pytest.mark.parametrize("config", [PLAIN, pytest.param(ALL, marks=pytest.mark.thorough)],
                               ids=lambda config: config.name)


def run_with(backend, config, dtype):
    """Return the losses and the last parameters."""
    if backend != "numpy":
        pytest.importorskip(backend, reason=f"{backend} is not installed")
    run = trainer(config, load(backend), dtype)
    return losses(run, config.steps), {name: run.ops.to_numpy(x) for name, x in run.parameters.items()}


@cache
def definition(config):
    """The trajectory of NumPy in float64."""
    return run_with("numpy", config, np.float64)


def moved(parameters, rng):
    return {name: x * (1 + rng.choice([-1, 1], x.shape) * 2.0**-52) if x.dtype.kind == "f" else x
            for name, x in parameters.items()}


@cache
def noise(config):
    """What the perturbation does: to the losses up to each step, and to each parameter at the end."""
    expected, last = definition(config)
    of_losses = np.spacing(expected)
    of_last = {name: np.spacing(np.abs(x).max().astype(float)) for name, x in last.items()}
    for seed in range(2):
        run = trainer(config)
        rng, found = np.random.default_rng(seed), []
        for _ in range(config.steps):                       # every step rounds every parameter again
            run.parameters = moved(run.parameters, rng)
            found.extend(losses(run, 1))
        of_losses = np.maximum(of_losses, np.abs(np.array(found) - expected))
        of_last = {name: max(bound, np.abs(run.parameters[name] - last[name]).max()) for name, bound in of_last.items()}
    return np.maximum.accumulate(of_losses), of_last


@BOTH
@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_float64(backend, config):
    expected, last = definition(config)
    found, parameters = run_with(backend, config, np.float64)
    of_losses, of_last = noise(config)
    assert (np.abs(found - expected) <= FACTOR * of_losses).all()
    differences = {name: np.abs(x - last[name]).max() for name, x in parameters.items()}
    assert {name: (x, of_last[name]) for name, x in differences.items() if not x <= FACTOR * of_last[name]} == {}
    assert expected[-1] < expected[0] - 1                   # it learns


@BOTH
def test_float32(config):
    pytest.importorskip("torch", reason="torch is not installed")
    expected, _ = definition(config)
    distance = {backend: np.abs(run_with(backend, config, np.float32)[0] - expected).max()
                for backend in ("torch", "numpy", "numba")}
    assert max(distance.values()) <= FACTOR * distance["torch"]
