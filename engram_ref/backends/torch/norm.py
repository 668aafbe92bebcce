"""Twin of ops/norm.py."""

import torch

from engram_ref.config import check_choice


def rms_norm(x: torch.Tensor, gain: torch.Tensor, eps: float | None) -> torch.Tensor:
    """Twin of ops.norm.rms_norm."""
    return gain * (x * inverse_rms(x, eps))


def inverse_rms(x: torch.Tensor, eps: float | None) -> torch.Tensor:
    """Twin of ops.norm.inverse_rms."""
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    return 1.0 / torch.sqrt(torch.mean(x * x, dim=-1, keepdim=True) + eps)


def effective_gain(weight: torch.Tensor, gain_form: str) -> torch.Tensor:
    """Twin of ops.norm.effective_gain."""
    check_choice("gain_form", gain_form)
    return 1.0 + weight if gain_form == "zero_centred" else weight
