"""Fixtures shared by several test folders."""

import json
from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).parent / "golden"
DEMO_MODULE = GOLDEN.parents[1] / "engram_ref" / "data" / "demo-module.safetensors"
"""A small module of the authors' demo with its inputs, outputs and gradients; the errata page uses it too."""


@pytest.fixture
def rng():
    return np.random.default_rng(20260112)


@pytest.fixture(scope="session")
def known_addressing():
    """Published addressing constants and digests of two releases."""
    return json.loads((GOLDEN / "addressing.json").read_text(encoding="utf-8"))
