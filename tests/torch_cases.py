"""The cases of tests/op_cases.py as tensors, and the scales of their rounding errors."""

import numpy as np
import pytest

from scripts.builders.small_modules import random_inputs, random_parameters

torch = pytest.importorskip("torch", reason="torch is not installed")
from engram_ref.backends import torch as torch_ops  # noqa: E402  needs torch


def mapped(function, arguments):
    """Apply a function to every array of a case's arguments, including those in dictionaries of parameters."""
    return tuple({name: function(x) for name, x in a.items()} if isinstance(a, dict) else function(a)
                 for a in arguments)


def tensor(array):
    return torch_ops.tensors({"it": array})["it"]


def arguments_of(case, shape=(2, 5), dtype=np.float64, seed=0):
    """Return a case's arguments as NumPy arrays, with float64 arrays converted to `dtype`."""
    arguments = case.arrays(np.random.default_rng(seed), *shape)
    return mapped(lambda x: x.astype(dtype) if x.dtype == np.float64 else x, arguments)


def outputs(result):
    """Return the result of a call as a list."""
    return list(result) if isinstance(result, tuple) else [result]


def error_scales(case, arguments):
    """Return |y| + sum |x dy/dx| over all float inputs x, elementwise, for every float output y.

    This is the scale of a chain of stages (docs/reference/golden.md), computed with torch's gradients in float64.
    """
    leaves = []

    def leaf(array):
        x = tensor(array)
        if array.dtype.kind == "f":
            x = x.double().requires_grad_()
            leaves.append(x)
        return x

    results = outputs(case.call(torch_ops, *mapped(leaf, arguments)))
    return [size_and_condition(y, leaves) if y.is_floating_point() else None for y in results]


def size_and_condition(y, leaves):
    scale = y.detach().abs().flatten()
    for i, element in enumerate(y.flatten()):
        slopes = torch.autograd.grad(element, leaves, retain_graph=True, allow_unused=True)
        scale[i] += sum((x * slope).abs().sum() for x, slope in zip(leaves, slopes, strict=True) if slope is not None)
    return scale.reshape(y.shape).detach().numpy()


def module_parameters(config, rng, dtype=np.float64):
    """Return random parameters of a module as NumPy arrays; FP8 tables have finite codes and scales from 1/8 to 4."""
    parameters = random_parameters(config, rng, dtype=dtype)
    if config.table_codec == "fp8_e8m0":
        shape = parameters["table_codes"].shape
        parameters["table_codes"] = (rng.integers(0, 126, shape) + 128 * rng.integers(0, 2, shape)).astype(np.uint8)
        parameters["table_scales"] = rng.integers(124, 130, parameters["table_scales"].shape).astype(np.uint8)
    return parameters


def module_arguments(config, device="cpu"):
    """Return parameters, hidden states, rows and taps of a module as tensors."""
    rng = np.random.default_rng(1)
    dtype = np.float32 if config.rounding == "fp8_bf16" else np.float64
    hidden, rows = random_inputs(config, rng, 2, 5, dtype)
    taps = rng.standard_normal((2, config.conv_span, *hidden.shape[2:])).astype(dtype)
    p = torch_ops.tensors(module_parameters(config, rng, dtype), device)
    return p, *(tensor(x).to(device) for x in (hidden, rows, taps))
