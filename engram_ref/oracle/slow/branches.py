"""Hyper-connections at one position, on lists; Sinkhorn-Knopp in long decimal arithmetic."""

import math
from decimal import Decimal, localcontext

from engram_ref.oracle.slow.module import dot, sigmoid, times


def sinkhorn(logits, iterations):
    """Apply exp, then normalise columns and rows alternately, in 60 digits with a huge exponent range."""
    with localcontext() as context:
        context.prec, context.Emin, context.Emax = 60, -10**9, 10**9
        matrix = [[Decimal(x).exp() for x in row] for row in logits]
        for _ in range(iterations):
            columns = [sum(column) for column in zip(*matrix, strict=True)]
            matrix = [[x / c for x, c in zip(row, columns, strict=True)] for row in matrix]
            matrix = [[x / sum(row) for x in row] for row in matrix]
        return [[float(x) for x in row] for row in matrix]


def release_matrix(logits, iterations, eps):
    """Return the releases' `comb`, [branch read][branch written], for logits in the same order.

    Apply a softmax over the last axis, add eps, then normalise columns and rows alternately, eps in every denominator.
    """
    size, matrix = range(len(logits)), []
    for row in logits:
        powers = [math.exp(x - max(row)) for x in row]
        matrix.append([power / math.fsum(powers) + eps for power in powers])
    for step in range(2 * iterations - 1):
        if step % 2 == 0:
            sums = [math.fsum(matrix[i][j] for i in size) + eps for j in size]
            matrix = [[x / s for x, s in zip(row, sums, strict=True)] for row in matrix]
        else:
            matrix = [[x / (math.fsum(row) + eps) for x in row] for row in matrix]
    return matrix


def raw_maps(phi, bias, alphas, branches, eps):
    """Return alpha * (phi v / rms(v)) + b, where v is the concatenation of all branches."""
    v = [a for branch in branches for a in branch]
    root = math.sqrt(dot(v, v) / len(v) + eps)
    projected = times(phi, [a / root for a in v])
    return [a * r + b for a, r, b in zip(alphas, projected, bias, strict=True)]


def maps(p, branches, c):
    """Return pre [M], post [M] and res [M][M], with one row per written branch.

    `c` is a dictionary: eps, iterations, post_mult, pre_eps, sinkhorn_eps.
    """
    n = len(branches)
    alphas = [p["alpha"][0]] * n + [p["alpha"][1]] * n + [p["alpha"][2]] * (n * n)
    raw = raw_maps(p["phi"], p["bias"], alphas, branches, c["eps"])
    pre = [sigmoid(x) + c.get("pre_eps", 0.0) for x in raw[:n]]
    post = [c["post_mult"] * sigmoid(x) for x in raw[n : 2 * n]]
    logits = [raw[2 * n + i * n : 2 * n + (i + 1) * n] for i in range(n)]
    if not c.get("sinkhorn_eps"):
        return pre, post, sinkhorn(logits, c["iterations"])
    comb = release_matrix(transposed(logits), c["iterations"], c["sinkhorn_eps"])
    return pre, post, transposed(comb)


def transposed(matrix):
    """Exchange the two indices of a matrix."""
    return [list(column) for column in zip(*matrix, strict=True)]


def weighted(weights, branches):
    """Return the weighted sum of the branches."""
    return [dot(weights, column) for column in zip(*branches, strict=True)]


def write(branches, y, post, res):
    """Replace branch i with sum_j res_ij branch_j + post_i y."""
    return [[a + w * b for a, b in zip(weighted(row, branches), y, strict=True)]
            for row, w in zip(res, post, strict=True)]


def site(p, branches, c, function):
    """Read the branches, apply the function, and write its output."""
    pre, post, res = maps(p, branches, c)
    return write(branches, function(weighted(pre, branches)), post, res)


def collapse(p, branches, form, eps):
    """Sum or average the branches, or weight them as DeepSeek-V4 does before its head."""
    n = len(branches)
    if form in ("sum", "mean"):
        return weighted([1.0 if form == "sum" else 1 / n] * n, branches)
    raw = raw_maps(p["phi"], p["bias"], [p["alpha"][0]] * n, branches, eps)
    return weighted([sigmoid(x) + 1e-6 for x in raw], branches)
