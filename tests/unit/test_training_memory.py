"""The stated memory of a step bounds the measured peak, closely."""

import tracemalloc

import numpy as np
import pytest

from engram_ref.backends.tape import NAMESPACE, Value, as_value, gradients
from engram_ref.errors import InputError
from engram_ref.model.parameters import initialise
from engram_ref.model.transformer import forward
from engram_ref.ops.namespace import NUMPY
from engram_ref.training import memory
from engram_ref.training.memory import TEMPORARY, bytes_of_step, check_step, recorded_sizes
from scripts.builders.small_models import MODELS

SIZES = {"batch": (40, 25), "long": (1, 400), "both": (3, 150)}


def measured_peak(parameters, config, batch, tokens):
    """Bytes at the peak of a step, including the parameters."""
    ids = np.random.default_rng(0).integers(0, config.backbone.vocab_size, (batch, tokens))
    tracemalloc.start()
    values = {name: as_value(array) for name, array in parameters.items()}
    output = NAMESPACE.cross_entropy(forward(values, ids, config, ops=NAMESPACE), ids)
    found = gradients(output, np.ones(output.shape), {n: x for n, x in values.items() if isinstance(x, Value)})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) > 10
    return peak + sum(array.nbytes for array in parameters.values())


@pytest.mark.parametrize("size", SIZES.values(), ids=list(SIZES))
@pytest.mark.parametrize("name", MODELS)
def test_stated_memory(name, size):
    """Python's objects are not stated; they are as many as for one token. The results are in memory at the end of the
    forward pass, so the statement is too high by at most the gradients and the temporary arrays.
    """
    config, (batch, tokens) = MODELS[name], size
    parameters = initialise(config, np.random.default_rng(1), np.float64)
    peak, stated = measured_peak(parameters, config, *size), bytes_of_step(parameters, config, *size)
    assert peak - measured_peak(parameters, config, 1, 1) <= stated - bytes_of_step(parameters, config, 1, 1)
    largest = batch * max(recorded_sizes(parameters, config, tokens, NUMPY))
    assert stated <= peak + sum(array.nbytes for array in parameters.values()) + TEMPORARY * largest


def test_a_step_that_does_not_fit_is_refused_before_it_runs(monkeypatch):
    config = next(iter(MODELS.values()))
    parameters = initialise(config, np.random.default_rng(1), np.float64)
    monkeypatch.setattr(memory, "available", lambda: 2**20)
    assert check_step(parameters, config, 1, 4) < 2**21
    with pytest.raises(InputError, match=r"a step that fits in 0\.0 GiB of memory, found 1000 x 90"):
        check_step(parameters, config, 1000, 90)


@pytest.mark.parametrize("batch, tokens", [(0, 4), (1, 0), (1.5, 4)])
def test_sizes_that_are_not_positive_integers(batch, tokens):
    config = next(iter(MODELS.values()))
    with pytest.raises(InputError, match="expected an integer"):
        bytes_of_step({}, config, batch, tokens)
