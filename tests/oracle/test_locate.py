"""Descriptions of wrong elements: synthetic masks, exact and with noise, and the columns of real cases."""

import numpy as np
import pytest

from engram_ref.oracle.check.columns import axes_of, side_columns
from engram_ref.oracle.check.locate import where
from engram_ref.oracle.encoding import decode_all
from engram_ref.oracle.vectors import read

B, T, M, D, C = 2, 12, 4, 64, 8
AXES = {"B": "sequence", "T": "t", "M": "branch", "D": "channel", "C": "column", "N": "order"}
SIZES = {"B": B, "T": T, "M": M, "D": D, "C": C, "N": 3}


def index(letters):
    """Return the indices of every axis, each broadcast to the whole array."""
    shape = tuple(SIZES[letter] for letter in letters)
    return shape, dict(zip((AXES[letter] for letter in letters), np.indices(shape), strict=True))


def order_and_head(shape):
    column = np.arange(C).reshape((1,) * (len(shape) - 1) + (-1,))
    return {"order": 2 + column // 4, "head": column % 4}


EXACT = [
    ("BTC", lambda i: i["column"] // 4 == 0, "only order = 2"),
    ("BTC", lambda i: (i["column"] // 4 == 1) & (i["t"] >= 9), "only t >= 9 and order = 3"),
    ("BTC", lambda i: i["column"] % 4 == 3, "only head = 3"),
    ("BTC", lambda i: i["column"] == 5, "only column = 5"),
    ("BTC", lambda i: i["column"] > -1, "everywhere"),
    ("BTC", lambda i: i["column"] < 0, "nowhere"),
    ("BTN", lambda i: i["order"] == 2, "only order = 4"),
    ("BTMD", lambda i: i["t"] == 0, "only t = 0"),
    ("BTMD", lambda i: i["t"] < 3, "only t < 3"),
    ("BTMD", lambda i: i["t"] >= 7, "only t >= 7"),
    ("BTMD", lambda i: i["t"] == T - 1, "only t = 11"),
    ("BTMD", lambda i: i["branch"] == 3, "only branch = 3"),
    ("BTMD", lambda i: i["branch"] > 0, "only branch >= 1"),
    ("BTMD", lambda i: i["channel"] >= 32, "only channel >= 32"),
    ("BTMD", lambda i: i["channel"] % 32 == 0, "only channel % 32 = 0"),
    ("BTMD", lambda i: i["channel"] % 2 == 1, "only channel % 2 = 1"),
    ("BTMD", lambda i: i["channel"] == 63, "only channel = 63"),
    ("BTMD", lambda i: (i["sequence"] == 1) & (i["t"] == 4), "only t = 4 and sequence = 1"),
    ("BTMD", lambda i: (i["branch"] == 2) & (i["channel"] < 8), "only channel < 8 and branch = 2"),
    ("BTM", lambda i: (i["sequence"] == 0) & (i["branch"] == 0), "only branch = 0 and sequence = 0"),
]


@pytest.mark.parametrize("letters, predicate, text", EXACT, ids=[text for *_, text in EXACT])
def test_exact_masks(letters, predicate, text):
    shape, i = index(letters)
    side = order_and_head(shape) if letters == "BTC" else {}
    assert where(predicate(i), tuple(AXES[letter] for letter in letters), side) == text


NOISY = [text for text in dict.fromkeys(text for *_, text in EXACT) if text not in ("nowhere", "everywhere")]


@pytest.mark.parametrize("text", NOISY)
def test_elements_that_are_right_by_chance(text):
    letters, predicate, _ = next(entry for entry in EXACT if entry[-1] == text)
    shape, i = index(letters)
    mask = predicate(i) & (np.random.default_rng(len(text)).random(shape) > 0.2)
    side = order_and_head(shape) if letters == "BTC" else {}
    assert where(mask, tuple(AXES[letter] for letter in letters), side).startswith(f"{text} (")


SIDE = [
    ("score = 0", lambda c: c["score"] == 0, "only where score = 0"),
    ("small score", lambda c: np.abs(c["score"]) < 1e-6, "only where |score| < 1e-6"),
    ("negative score", lambda c: c["score"] < 0, "only where score < 0"),
    ("NaN score", lambda c: ~np.isfinite(c["score"]), "only where score not finite"),
    ("byte 0", lambda c: c["scale byte"] == 0, "only where scale byte = 0"),
    ("byte 255", lambda c: c["scale byte"] == 255, "only where scale byte = 255"),
    ("codes", lambda c: c["a NaN code"], "only with a NaN code"),
    ("not dead", lambda c: ~c["a DEAD token"], "only without a DEAD token"),
    ("two", lambda c: c["a DEAD token"] & (c["t"] > 5), "only with a DEAD token and t >= 6"),
    ("big id", lambda c: c["id"] >= 2**31, "only where id >= 2147483648"),
]


def columns():
    """Return columns that explain elements of an array [B, T, M, D]."""
    rng, shape = np.random.default_rng(5), (B, T, M, D)
    score = rng.normal(size=(B, T, M, 1)) * 10.0 ** rng.integers(-8, 2, (B, T, M, 1))
    score[rng.random(score.shape) < 0.15], score[rng.random(score.shape) < 0.1] = 0.0, np.nan
    return {"score": score, "scale byte": rng.choice([0, 98, 120, 127, 255], (B, T, 1, D)),
            "a NaN code": rng.random((B, T, 1, D)) < 0.1, "a DEAD token": rng.random((B, T, 1, 1)) < 0.4,
            "t": np.arange(T).reshape(1, T, 1, 1), "id": rng.integers(0, 2**32, shape)}


@pytest.mark.parametrize("name, predicate, text", SIDE, ids=[name for name, *_ in SIDE])
def test_masks_that_follow_data(name, predicate, text):
    side = columns()
    mask = np.broadcast_to(predicate(side), (B, T, M, D))
    del side["t"]
    assert where(mask, ("sequence", "t", "branch", "channel"), side) == text


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6])
@pytest.mark.parametrize("seed", range(4))
def test_no_pattern_is_claimed_for_random_elements(seed, share):
    mask = np.random.default_rng(seed).random((B, T, M, D)) < share
    assert where(mask, ("sequence", "t", "branch", "channel"), columns() | {}).startswith("in no pattern (")


def test_wrong_elements_outside_the_pattern_are_counted():
    mask = np.zeros((B, T, M), bool)
    mask[:, 0], mask[1, 7, 2] = True, True
    assert where(mask, ("sequence", "t", "branch"), {}) == "mostly t = 0 (8 of 8 there, and 1 elsewhere)"


@pytest.fixture(scope="module")
def vectors():
    return read()


def test_every_stage_of_the_golden_cases_has_axes_and_columns_that_broadcast(vectors):
    known = set()
    for case in vectors.cases:
        arguments = decode_all(case.arguments, vectors.arrays, vectors.configurations)
        expected = {stage.name: stage.array for stage in case.stages}
        for stage in case.stages:
            axes = axes_of(case, stage.name, stage.array.ndim)
            assert len(axes) == stage.array.ndim == len(set(axes)), (case.name, stage.name)
            side = side_columns(case, stage.name, arguments, expected)
            for name, column in side.items():
                assert np.broadcast_shapes(column.shape, stage.array.shape) == stage.array.shape, (case.name, name)
            known |= {*axes, *side}
    assert {"order", "head", "score", "rms", "scale byte", "a NaN code", "code exponent", "block maximum",
            "a DEAD token", "DEAD in the window", "EOS in the window", "a window across the cut",
            "a window before the start"} <= known


def located(vectors, name, stage, wrong):
    """Describe the elements of a golden case for which `wrong(arguments, expected)` is true."""
    case = next(case for case in vectors.cases if case.name == name)
    arguments = decode_all(case.arguments, vectors.arrays, vectors.configurations)
    expected = {each.name: each.array for each in case.stages}
    mask = wrong(arguments, expected)
    return where(mask, axes_of(case, stage, mask.ndim), side_columns(case, stage, arguments, expected))


def before_the_start(arguments, expected):
    """Return the rows whose window reaches before the start: int64 [B, T, C] -> bool."""
    orders = 2 + np.arange(4) // 2
    return np.broadcast_to(np.arange(expected["rows"].shape[1])[:, None] < orders - 1, expected["rows"].shape)


@pytest.mark.parametrize("name, stage, wrong, text", [
    ("dequantise/every-scale-float32", "output", lambda a, e: np.broadcast_to(a["scales"].repeat(32, axis=-1) == 0,
                                                                    a["codes"].shape), "only where scale byte = 0"),
    ("dequantise/every-code-float32", "output", lambda a, e: a["codes"] & 127 == 127, "only with a NaN code"),
    ("gate/sigmoid-edges", "output", lambda a, e: np.abs(a["s"]) == 0, "only where score = 0"),
    ("address/dead-rows", "rows", before_the_start, "only with a window before the start"),
])
def test_columns_of_golden_cases(vectors, name, stage, wrong, text):
    assert located(vectors, name, stage, wrong) == text
