"""Hyper-connections: the order of Sinkhorn-Knopp steps, the three maps, reading, writing, collapsing."""

import numpy as np
import pytest

from engram_ref.model_config import HyperConfig
from engram_ref.ops import (
    branch_maps,
    collapse,
    expand,
    read_branches,
    read_single,
    sinkhorn,
    write_branches,
    write_single,
)
from engram_ref.oracle.slow import branches as slow
from tests.bounds_backbone import logit_scale_of_maps, matrix_scale, sinkhorn_terms, weight_scale
from tests.compare import assert_close

SHAPES = [(1, 0, 3, 5), (1, 1, 1, 1), (2, 3, 2, 7), (1, 2, 4, 3)]
EPS = 1e-6


def site(M, D, seed=0):
    rng = np.random.default_rng(seed)
    maps = 2 * M + M * M
    return {"phi": rng.standard_normal((maps, M * D)) / (M * D) ** 0.5, "bias": rng.standard_normal(maps),
            "alpha": np.array([0.5, -1.5, 2.0])}


def state(shape, seed=1):
    """Branches of different magnitude, so that swapped branches are noticed."""
    X = np.random.default_rng(seed).standard_normal(shape)
    return X * (1 + np.arange(shape[2]))[:, None]


def slow_maps(p, X, config):
    lists = {name: array.tolist() for name, array in p.items()}
    c = {"eps": EPS, "iterations": config.iterations, "post_mult": config.post_mult}
    B, T, M, _ = X.shape
    result = [[slow.maps(lists, branches, c) for branches in row] for row in X.tolist()]
    shapes = ((B, T, M), (B, T, M), (B, T, M, M))
    return [np.array([[maps[i] for maps in row] for row in result], dtype=float).reshape(shape)
            for i, shape in enumerate(shapes)]


@pytest.mark.parametrize("iterations", [1, 2, 20])
@pytest.mark.parametrize("spread", [0.5, 4.0, 32.0, 128.0], ids=lambda s: f"logits of {s}")
@pytest.mark.parametrize("M", [1, 2, 3, 4, 7])
def test_sinkhorn_matches_decimal_arithmetic(M, spread, iterations):
    logits = spread * np.random.default_rng(M).standard_normal((3, M, M))
    expected = np.array([slow.sinkhorn(matrix, iterations) for matrix in logits.tolist()])
    scale = 1 + np.abs(logits).max()                       # a logarithm a is off by a * u
    assert_close("matrix", expected, sinkhorn(logits, iterations), "f64", sinkhorn_terms(M, iterations), scale)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("spread", [0.5, 2.0, 32.0, 128.0, 1000.0], ids=lambda s: f"logits of {s}")
def test_rows_sum_to_one(spread, dtype):
    """The last step divides rows by their sums; large logits must not cause 0 / 0."""
    logits = (spread * np.random.default_rng(0).standard_normal((2000, 4, 4))).astype(dtype)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        result = sinkhorn(logits, 20)
    assert result.dtype == dtype
    assert np.isfinite(result).all()
    kind = "f32" if dtype is np.float32 else "f64"
    assert_close("row sums", np.ones((2000, 4)), result.sum(axis=-1), kind, 4)


def test_columns_sum_to_one_approximately():
    """Twenty steps do not converge: the error of the worst column sum grows with the logits."""
    unit = np.random.default_rng(0).standard_normal((2000, 4, 4))
    worst = [np.abs(sinkhorn(spread * unit, 20).sum(axis=-2) - 1).max() for spread in (0.25, 1.0, 8.0)]
    assert_close("columns of small logits", 1.0, 1.0 + worst[0], "model")
    assert worst[0] < worst[1] < worst[2]
    assert 0.1 < worst[2] < 1.0


def test_columns_are_normalised_first():
    """One step on [[1, 3], [1, 1]]: columns give [[1/2, 3/4], [1/2, 1/4]], rows then [[2/5, 3/5], [2/3, 1/3]]."""
    result = sinkhorn(np.log(np.array([[1.0, 3.0], [1.0, 1.0]])), 1)
    assert_close("matrix", np.array([[2 / 5, 3 / 5], [2 / 3, 1 / 3]]), result, "f64", 8)


@pytest.mark.parametrize("iterations", [1, 2, 20])
@pytest.mark.parametrize("eps", [1e-6, 1e-3])
def test_sinkhorn_with_eps_is_the_transpose_of_the_released_version(eps, iterations):
    logits = np.random.default_rng(0).standard_normal((5, 4, 4))
    expected = np.array([slow.release_matrix(matrix.T.tolist(), iterations, eps) for matrix in logits])
    result = sinkhorn(logits, iterations, eps)
    assert_close("matrix", expected.swapaxes(1, 2), result, "f64", sinkhorn_terms(4, iterations))
    assert np.abs(expected - result).max() > 0.1, "differs without the transpose"


@pytest.mark.parametrize("config", [HyperConfig(), HyperConfig(iterations=3, post_mult=1.0)], ids=["paper", "other"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_maps_match_the_slow_version(shape, config):
    p, X = site(*shape[2:]), state(shape)
    M, D = shape[2:]
    logits = logit_scale_of_maps(p, X, EPS)
    scales = (weight_scale(logits[..., :M]), 2 * weight_scale(logits[..., M : 2 * M]),
              matrix_scale(logits[..., 2 * M :], M, config.iterations, M * D))
    for name, expected, result, scale in zip(("pre", "post", "res"), slow_maps(p, X, config),
                                             branch_maps(p, X, EPS, config), scales, strict=True):
        assert_close(name, expected, result, "f64", M * D, scale)


def test_all_branches_are_normalised_together():
    """Scaling one branch alone changes the maps; scaling all of them does not."""
    p, X = site(3, 5), state((1, 2, 3, 5))
    maps, same = (branch_maps(p, factor * X, 0.0, HyperConfig(3)) for factor in (1.0, 4.0))
    other = branch_maps(p, X * np.array([4.0, 1, 1])[:, None], 0.0, HyperConfig(3))
    for a, b, c in zip(maps, same, other, strict=True):
        assert_close("map", a, b, "exact")
        assert np.abs(a - c).max() > 1e-3


def test_untrained_hyper_connection_maps():
    p, X = {"phi": np.zeros((24, 20)), "bias": np.zeros(24), "alpha": np.ones(3)}, state((1, 2, 4, 5))
    pre, post, res = branch_maps(p, X, EPS, HyperConfig())
    assert (pre == 0.5).all()
    assert (post == 1.0).all()
    assert_close("res", np.full((1, 2, 4, 4), 0.25), res, "f64", sinkhorn_terms(4, 20))


def test_released_eps_options_change_pre_and_res():
    p, X = site(4, 5), state((1, 2, 4, 5))
    paper, release = (branch_maps(p, X, EPS, c) for c in (HyperConfig(), HyperConfig(pre_eps=1e-6, sinkhorn_eps=1e-6)))
    assert_close("pre", paper[0] + 1e-6, release[0], "exact")
    assert_close("post", paper[1], release[1], "exact")
    assert np.abs(paper[2] - release[2]).max() > 0


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_hyper_connection_matches_the_slow_version(shape):
    p, X, config = site(*shape[2:]), state(shape), HyperConfig(shape[2])
    lists, c = {n: a.tolist() for n, a in p.items()}, {"eps": EPS, "iterations": 20, "post_mult": 2.0}
    expected = [[slow.site(lists, branches, c, lambda u: [3 * a for a in u]) for branches in row]
                for row in X.tolist()]
    pre, post, res = branch_maps(p, X, EPS, config)
    result = write_branches(X, 3 * read_branches(X, pre), post, res)
    M, D = shape[2:]
    logits, reach = logit_scale_of_maps(p, X, EPS), np.abs(X).sum(axis=2, keepdims=True)
    y = 3 * weight_scale(logits[..., :M]).max(axis=-1)[..., None, None] * reach
    scale = matrix_scale(logits[..., 2 * M :], M, 20, M * D) * reach
    scale = scale + 2 * weight_scale(logits[..., M : 2 * M])[..., None] * y
    assert_close("branches", np.array(expected, dtype=float).reshape(shape), result, "f64", M * D, scale)


def test_matrix_rows_are_the_written_branches():
    """The matrix copies branch 1 to branch 0, not branch 0 to branch 1."""
    X = np.array([[[[1.0, 2.0], [3.0, 4.0]]]])
    result = write_branches(X, np.array([[[10.0, 20.0]]]), np.array([[[0.0, 1.0]]]), np.array([[[[0.0, 1], [0, 0]]]]))
    assert result[0, 0].tolist() == [[3, 4], [10, 20]]
    assert read_branches(X, np.array([[[2.0, -1.0]]]))[0, 0].tolist() == [-1, 0]


@pytest.mark.parametrize("form", ["sum", "mean", "head"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_collapse_matches_the_slow_version(shape, form):
    rng, X = np.random.default_rng(0), state(shape)
    M, D = shape[2:]
    p = {"phi": rng.standard_normal((M, M * D)), "bias": rng.standard_normal(M), "alpha": np.array([0.7])}
    lists = {name: array.tolist() for name, array in p.items()}
    expected = [[slow.collapse(lists, branches, form, EPS) for branches in row] for row in X.tolist()]
    result = collapse(X, form, p, EPS)
    scale = weight_scale(logit_scale_of_maps(p, X, EPS)).max(axis=-1, keepdims=True) * np.abs(X).sum(axis=2)
    assert_close("stream", np.array(expected, dtype=float).reshape(*shape[:2], D), result, "f64", M * D + M, scale)


def test_expand_copies_the_stream_to_every_branch():
    x = np.arange(6.0).reshape(1, 2, 3)
    assert_close("branches", np.stack([x, x, x, x], axis=2), expand(x, 4), "exact")


def test_a_plain_stream_has_one_branch():
    X, y = state((2, 3, 1, 4)), state((2, 3, 1, 4), 2)[:, :, 0]
    assert_close("read", X[:, :, 0], read_single(X), "exact")
    assert_close("written", (X[:, :, 0] + y)[:, :, None], write_single(X, y), "exact")
    pre, post, res = branch_maps(site(1, 4), X, EPS, HyperConfig(1))
    assert (res == 1).all()
    assert ((pre > 0) & (pre < 1) & (post > 0) & (post < 2)).all()
