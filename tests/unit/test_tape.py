"""What the recording namespace refuses, and slices of its values."""

import numpy as np
import pytest

from engram_ref import InputError
from engram_ref.backends import load
from engram_ref.backends.tape import NAMESPACE, Value, gradients


def squared():
    x = Value(np.arange(1.0, 5.0))
    return x, NAMESPACE.multiply(x, x)


def test_load_returns_the_recording_namespace():
    assert load("tape") is NAMESPACE


def test_record_used_twice():
    x, y = squared()
    gradients(y, np.ones(4), {"x": x})
    with pytest.raises(InputError, match="used"):
        gradients(y, np.ones(4), {"x": x})


def test_parameter_overwritten():
    x, y = squared()
    x.array[1] = 9.0
    with pytest.raises(InputError, match=r"value x.*changed"):
        gradients(y, np.ones(4), {"x": x})


def test_upstream_of_another_shape():
    x, y = squared()
    with pytest.raises(InputError, match="upstream"):
        gradients(y, np.ones(3), {"x": x})


def test_slice_has_a_gradient_in_its_place():
    x, y = squared()
    assert np.array_equal(gradients(y[1:3], np.ones(2), {"x": x})["x"], [0.0, 4.0, 6.0, 0.0])
