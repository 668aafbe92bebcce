"""Torch version of ops/sampling.py."""

import torch

from engram_ref.checks import check_kind


def sample(logits: torch.Tensor, temperature: float, rng: torch.Generator | None) -> torch.Tensor:
    """Torch version of ops.sampling.sample; draws from `rng`, a torch.Generator on the logits' device."""
    if temperature > 0:
        check_kind("rng", rng, torch.Generator)
        below = logits.to(torch.float64) - logits.amax(dim=-1, keepdim=True)       # at most 0: no overflow to +inf
        uniform = torch.rand(logits.shape, generator=rng, dtype=torch.float64, device=logits.device)
        logits = below / temperature - torch.log(-torch.log(uniform))
    return logits.argmax(dim=-1)


def join(tokens: list[torch.Tensor], batch: int) -> torch.Tensor:
    """Torch version of ops.sampling.join; returns a CPU tensor if there are no tokens."""
    return torch.cat(tokens, dim=1) if tokens else torch.zeros((batch, 0), dtype=torch.int64)
