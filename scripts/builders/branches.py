"""Hyper-connections; oracle/slow/branches.py computes the answers."""

import numpy as np

from engram_ref.model_config import HyperConfig
from engram_ref.oracle.slow import branches as slow
from scripts.builders.planned import case, rng_of
from scripts.builders.small_modules import as_lists

EPS = 1e-6
SHAPES = {"batch": (2, 3, 3, 5), "one-token": (1, 1, 4, 2), "empty": (2, 0, 2, 3), "one-branch": (1, 2, 1, 3)}


def sinkhorns():
    """Yield cases with small and large logits, in the paper's form and in DeepSeek-V4's."""
    rng = rng_of("sinkhorn/logits")
    for title, logits, iterations, flags in (
            ("twenty", rng.standard_normal((2, 4, 4)), 20, ""), ("one", rng.standard_normal((3, 3)), 1, "odd-width"),
            ("large", 300 * rng.standard_normal((4, 4)), 20, "saturated"), ("single", np.array([[2.5]]), 3, "")):
        yield case(f"sinkhorn/{title}", flags=flags, logits=logits, iterations=iterations, eps=0.0,
                   slow=lambda logits, iterations, eps: [slow.sinkhorn(m, iterations) for m in matrices(logits)])
    logits = rng.standard_normal((2, 4, 4))
    yield case("sinkhorn/release", flags="eps", logits=logits, iterations=20, eps=EPS, slow=slow_release)


def slow_release(logits, iterations, eps):
    """Transpose the releases' matrix, [read, written], to [written, read]."""
    return [np.transpose(slow.release_matrix(m.T.tolist(), iterations, eps)) for m in logits]


def matrices(logits):
    return logits.reshape(-1, *logits.shape[-2:]).tolist()


def site(name, shape):
    M, D = shape[2:]
    rng = rng_of(name)
    maps = 2 * M + M * M
    parameters = {"phi": rng.standard_normal((maps, M * D)) * (M * D) ** -0.5, "bias": rng.standard_normal(maps),
                  "alpha": np.array([0.7, -1.1, 0.4])}
    return parameters, rng.standard_normal(shape) * 10.0 ** np.arange(M)[:, None], rng


def sites():
    """Yield cases for the maps, and for reading, writing and collapsing branches."""
    for title, shape in SHAPES.items():
        B, T, M, D = shape
        parameters, X, rng = site(f"branch_maps/{title}", shape)
        flags = "empty" if T == 0 else "unequal-branches" if M > 1 else ""
        flags += " one-token" if T == 1 else ""
        config = HyperConfig(M, 5)
        yield case(f"branch_maps/{title}", outputs=("branch_pre", "branch_post", "branch_residual"), slow=slow_maps,
                   flags=flags, parameters=parameters, X=X, eps=EPS, config=config)
        pre, post, y = rng.random((B, T, M)), rng.random((B, T, M)), rng.standard_normal((B, T, D))
        res = rng.random((B, T, M, M))
        yield case(f"read_branches/{title}", flags=flags, X=X, pre=pre, slow=lambda X, pre: [
            slow.weighted(w, b) for w, b in zip(rows(pre), rows(X, 2), strict=True)])
        yield case(f"write_branches/{title}", flags=flags, X=X, y=y, post=post, res=res, slow=slow_write)
        yield case(f"expand/{title}", kind="exact", flags="empty" if T == 0 else "", x=y, n_branches=M,
                   slow=lambda x, n_branches: [[v] * n_branches for v in rows(x)])
        for form in ("sum", "mean", "head"):
            head = {} if form != "head" else {"phi": parameters["phi"][:M], "bias": parameters["bias"][:M],
                                             "alpha": np.array([0.9])}
            yield case(f"collapse/{form}-{title}", flags=flags, X=X, form=form, parameters=head,
                       eps=EPS, slow=slow_collapse)
    X, y = rng.standard_normal((2, 3, 1, 5)), rng.standard_normal((2, 3, 5))
    yield case("read_single/batch", kind="exact", X=X, slow=lambda X: [b[0] for b in rows(X, 2)])
    yield case("write_single/batch", kind="exact", X=X, y=y, slow=lambda X, y: [
        [[a + c for a, c in zip(b[0], v, strict=True)]] for b, v in zip(rows(X, 2), rows(y), strict=True)])


def rows(x, axes=1):
    """Return the arrays of all positions as lists."""
    return x.reshape(-1, *x.shape[-axes:]).tolist() if x.size else []


def slow_maps(parameters, X, eps, config):
    c = {"eps": eps, "iterations": config.iterations, "post_mult": config.post_mult}
    maps = [slow.maps(as_lists(parameters), b, c) for b in rows(X, 2)]
    return tuple([part[i] for part in maps] for i in range(3))


def slow_write(X, y, post, res):
    return [slow.write(*parts) for parts in zip(rows(X, 2), rows(y), rows(post), rows(res, 2), strict=True)]


def slow_collapse(X, form, parameters, eps):
    return [slow.collapse(as_lists(parameters), b, form, eps) for b in rows(X, 2)]


AREA = (sinkhorns, sites)
