"""Autoregressive decoding, one token per step."""

from collections.abc import Mapping
from types import NoneType

import numpy as np

from engram_ref.addressing import Addressing
from engram_ref.checks import NonNegative, as_batch, as_ops, check_kinds, checked, integer
from engram_ref.errors import InputError
from engram_ref.model.state import DecodeState
from engram_ref.model.transformer import prepare_model, run
from engram_ref.model_config import ModelConfig
from engram_ref.ops.namespace import NUMPY, Ops


def generate(parameters: Mapping[str, np.ndarray], prompt: np.ndarray, config: ModelConfig, new_tokens: int, *,
             temperature: float = 0.0, rng: "np.random.Generator | None" = None,
             addressing: Addressing | None = None, ops: Ops = NUMPY) -> np.ndarray:
    """Generate the continuation of a prompt.

    prompt        int64 [B, T] or [T], at least one token
    new_tokens    number of tokens to generate
    temperature   0: the most likely token, the lowest id on a tie; positive: sample from softmax(logits / temperature)
    rng           the only source of randomness, of the type that ops.sample takes; required for a positive temperature
    addressing    as for forward
    returns       int64 [B, new_tokens] or [new_tokens]
    raises        InputError for an empty prompt, a negative count or temperature, or a missing rng
    """
    ops = as_ops(ops)
    check_kinds(config=(config, ModelConfig), addressing=(addressing, Addressing, NoneType))
    batched, prompt = as_batch("prompt", "T", ops.as_int64("prompt", prompt))
    if prompt.shape[1] == 0:
        raise InputError("prompt", "int64 [B, T] or [T] with at least one token", list(prompt.shape))
    new_tokens, temperature = integer("new_tokens", new_tokens), checked("temperature", temperature, NonNegative)
    if temperature > 0 and rng is None:
        raise InputError("temperature", "0, or a positive number and an rng", f"{temperature} without an rng")
    model = prepare_model(parameters, config, addressing, ops, {"prompt": prompt})
    state, newest, written = DecodeState.start(len(prompt)), prompt, []
    for _ in range(new_tokens):
        logits = run(model, newest, state, absorbed=True)
        newest = ops.sample(logits[:, -1], temperature, rng)[:, None]
        written.append(newest)
    tokens = ops.join(written, len(prompt))
    return tokens if batched else tokens[0]
