"""Twin of ops/branches.py."""

import torch

from engram_ref.backends.torch._tensors import Parameters
from engram_ref.backends.torch.gate import sigmoid
from engram_ref.backends.torch.linear import linear
from engram_ref.backends.torch.norm import inverse_rms
from engram_ref.checks import check_shapes
from engram_ref.model_config import HyperConfig
from engram_ref.ops.branches import HEAD_FLOOR


def expand(x: torch.Tensor, n_branches: int) -> torch.Tensor:
    """Twin of ops.branches.expand."""
    return x[:, :, None, :].repeat(1, 1, n_branches, 1)


def log_normalise(logits: torch.Tensor, axis: int) -> torch.Tensor:
    """Twin of ops.branches.log_normalise."""
    return torch.log_softmax(logits, dim=axis)


def sinkhorn(logits: torch.Tensor, iterations: int, eps: float = 0.0) -> torch.Tensor:
    """Twin of ops.branches.sinkhorn."""
    if eps:
        return sinkhorn_with_eps(logits, iterations, eps)
    for _ in range(iterations):
        logits = log_normalise(log_normalise(logits, axis=-2), axis=-1)
    return torch.exp(logits)


def sinkhorn_with_eps(logits: torch.Tensor, iterations: int, eps: float) -> torch.Tensor:
    """Twin of ops.branches.sinkhorn_with_eps."""
    matrix = torch.exp(log_normalise(logits, axis=-2)) + eps
    matrix = matrix / (matrix.sum(dim=-1, keepdim=True) + eps)
    for _ in range(iterations - 1):
        matrix = matrix / (matrix.sum(dim=-2, keepdim=True) + eps)
        matrix = matrix / (matrix.sum(dim=-1, keepdim=True) + eps)
    return matrix


def branch_maps(parameters: Parameters, X: torch.Tensor, eps: float,
                config: HyperConfig) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Twin of ops.branches.branch_maps."""
    B, T, M, D = X.shape
    v = X.reshape(B, T, M * D)                                               # branch after branch
    raw = linear(v * inverse_rms(v, eps), parameters["phi"])                 # [B, T, 2M+M*M]
    alpha = torch.cat([parameters["alpha"][i].expand(count) for i, count in enumerate((M, M, M * M))])
    logits = alpha * raw + parameters["bias"]
    pre = sigmoid(logits[..., :M]) + config.pre_eps
    post = config.post_mult * sigmoid(logits[..., M : 2 * M])
    res = sinkhorn(logits[..., 2 * M :].reshape(B, T, M, M), config.iterations, config.sinkhorn_eps)
    return pre, post, res


def read_branches(X: torch.Tensor, pre: torch.Tensor) -> torch.Tensor:
    """Twin of ops.branches.read_branches."""
    return torch.einsum("btm,btmd->btd", pre, X)


def write_branches(X: torch.Tensor, y: torch.Tensor, post: torch.Tensor, res: torch.Tensor) -> torch.Tensor:
    """Twin of ops.branches.write_branches."""
    return torch.einsum("btij,btjd->btid", res, X) + post[..., None] * y[:, :, None, :]


def collapse(X: torch.Tensor, form: str, parameters: Parameters, eps: float) -> torch.Tensor:
    """Twin of ops.branches.collapse."""
    if form == "sum":
        return X.sum(dim=2)
    if form == "mean":
        return X.mean(dim=2)
    B, T, M, D = X.shape
    v = X.reshape(B, T, M * D)
    raw = linear(v * inverse_rms(v, eps), parameters["phi"])
    return read_branches(X, sigmoid(parameters["alpha"] * raw + parameters["bias"]) + HEAD_FLOOR)


def read_single(X: torch.Tensor) -> torch.Tensor:
    """Twin of ops.branches.read_single."""
    return X[:, :, 0]


def write_single(X: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Twin of ops.branches.write_single."""
    check_shapes(y=(y, (*X.shape[:2], X.shape[-1])))
    return X + y[:, :, None]
