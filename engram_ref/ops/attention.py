"""MLA, multi-head latent attention: cache one small latent per token instead of every head's keys and values.

A latent c and one rotary key, shared by all heads, are computed from the hidden state x. Only these two are cached:

    c = RMSNorm((W_kva x)[:r]),   k_pe = RoPE((W_kva x)[r:])        576 numbers in the released models

In the expanded form, every head computes its keys and values from c and attends as usual:

    k[h] = (W_UK[h] c | k_pe),  v[h] = W_UV[h] c
    o[h] = sum_s softmax_s(scale <q[h], k[h][s]>) v[h][s]

In the absorbed form, W_UK is applied to the queries and W_UV after the sum over s, so heads attend to c itself. The
order of the products differs, the result is the same. Decoding uses this form.
"""

import numpy as np

from engram_ref.model_config import AttentionConfig
from engram_ref.ops.composite import Composite
from engram_ref.ops.record import Parameters, Record, ignore
from engram_ref.ops.rope import softmax_scale


def visible(positions: np.ndarray, n_keys: int) -> np.ndarray:
    """Return the mask of tokens that each new token may attend to: itself and earlier tokens.

    positions   int64 [B, T] of the new tokens; the index of a cache slot is its position
    returns     bool [B, T, S]

    >>> visible(np.array([[1, 2]]), 3).astype(int)
    array([[[1, 1, 0],
            [1, 1, 1]]])
    """
    return np.arange(n_keys) <= positions[..., None]


def softmax(scores: np.ndarray, allowed: np.ndarray | None = None) -> np.ndarray:
    """Return the softmax over the last axis, with zeros where not allowed.

    scores    [..., S]; with a mask [B, A, T, S]
    allowed   bool [B, T, S], or None: no mask
    returns   same shape as scores; each row sums to one
    """
    masked = scores if allowed is None else np.where(allowed[:, None], scores, -np.inf)
    weights = np.exp(masked - masked.max(axis=-1, keepdims=True, initial=-np.inf))   # S may be 0 if T is
    return weights / weights.sum(axis=-1, keepdims=True)


class Attention(Composite):
    """Latent attention, in its expanded and absorbed forms."""

    __slots__ = ()
    visible = staticmethod(visible)
    softmax = staticmethod(softmax)

    def queries(self, parameters: Parameters, x: np.ndarray, angle: np.ndarray,
                config: AttentionConfig) -> tuple[np.ndarray, np.ndarray]:
        """Compute every head's query: the channels without position, and the rotated channels.

        parameters   "wq.weight" [A*(dn+dr), D]; with a query latent "wq_a.weight" [rq, D], "q_norm.weight" [rq],
                     "wq_b.weight" [A*(dn+dr), rq]
        x            [B, T, D] normalised hidden state
        angle        float64 [B, T, dr/2]
        returns      q_nope [B, T, A, dn], q_pe [B, T, A, dr]
        source       DeepSeek-V2, V3
        """
        if config.q_lora_rank is None:
            q = self.linear(x, parameters["wq.weight"])
        else:
            latent = self.linear(x, parameters["wq_a.weight"])
            latent = self.rms_norm(latent, parameters["q_norm.weight"], config.latent_norm_eps)
            q = self.linear(latent, parameters["wq_b.weight"])
        B, T, _ = q.shape
        q = self.reshape(q, (B, T, config.n_heads, config.qk_head_dim))
        nope, pe = self.split(q, config.qk_nope_head_dim)
        return nope, self.rotate(pe, angle)

    def latents(self, parameters: Parameters, x: np.ndarray, angle: np.ndarray,
                config: AttentionConfig) -> tuple[np.ndarray, np.ndarray]:
        """Compute the cached values of each token: its normalised latent and its rotated key.

        parameters   "wkv_a.weight" [r+dr, D], "kv_norm.weight" [r]
        x            [B, T, D]
        angle        float64 [B, T, dr/2]
        returns      c_kv [B, T, r] after its norm, k_pe [B, T, dr] after RoPE, without a norm
        """
        c, pe = self.split(self.linear(x, parameters["wkv_a.weight"]), config.kv_lora_rank)
        return self.rms_norm(c, parameters["kv_norm.weight"], config.latent_norm_eps), self.rotate(pe, angle)

    def up_projections(self, parameters: Parameters, config: AttentionConfig) -> tuple[np.ndarray, np.ndarray]:
        """Split every head's up-projection into its key half and its value half.

        parameters   "wkv_b.weight" [A*(dn+dv), r]: each head's key rows, then its value rows
        returns      W_UK [A, dn, r], W_UV [A, dv, r]
        """
        width = config.qk_nope_head_dim + config.v_head_dim
        heads = self.reshape(parameters["wkv_b.weight"], (config.n_heads, width, config.kv_lora_rank))
        return self.split(heads, config.qk_nope_head_dim, axis=-2)

    def attend_expanded(self, q_nope: np.ndarray, q_pe: np.ndarray, c_kv: np.ndarray, k_pe: np.ndarray,
                        w_uk: np.ndarray, w_uv: np.ndarray, allowed: np.ndarray, scale: float,
                        record: Record = ignore) -> np.ndarray:
        """Attend with the keys and values of every head computed explicitly.

        q_nope, q_pe   [B, T, A, dn], [B, T, A, dr]
        c_kv, k_pe     [B, S, r], [B, S, dr]
        w_uk, w_uv     [A, dn, r], [A, dv, r]
        allowed        bool [B, T, S]
        scale          factor of the score
        returns        [B, T, A, dv]
        """
        k_nope = self.einsum("bsr,anr->bsan", c_kv, w_uk)               # [B, S, A, dn]
        value = self.einsum("bsr,avr->bsav", c_kv, w_uv)                # [B, S, A, dv]
        scores = self.add(self.einsum("btan,bsan->bats", q_nope, k_nope), self.einsum("btap,bsp->bats", q_pe, k_pe))
        weights = self.softmax(self.multiply(scale, scores), allowed)    # [B, A, T, S]
        record("attention_weights", weights)
        return self.einsum("bats,bsav->btav", weights, value)

    def attend_absorbed(self, q_nope: np.ndarray, q_pe: np.ndarray, c_kv: np.ndarray, k_pe: np.ndarray,
                        w_uk: np.ndarray, w_uv: np.ndarray, allowed: np.ndarray, scale: float,
                        record: Record = ignore) -> np.ndarray:
        """Attend to the latents themselves; arguments and result as for attend_expanded."""
        q_latent = self.einsum("btan,anr->btar", q_nope, w_uk)     # [B, T, A, r]
        scores = self.add(self.einsum("btar,bsr->bats", q_latent, c_kv), self.einsum("btap,bsp->bats", q_pe, k_pe))
        weights = self.softmax(self.multiply(scale, scores), allowed)    # [B, A, T, S]
        record("attention_weights", weights)
        context = self.einsum("bats,bsr->btar", weights, c_kv)     # [B, T, A, r]
        return self.einsum("btar,avr->btav", context, w_uv)

    def mla(self, parameters: Parameters, x: np.ndarray, c_kv: np.ndarray, k_pe: np.ndarray, positions: np.ndarray,
            angle: np.ndarray, config: AttentionConfig, absorbed: bool = False, record: Record = ignore) -> np.ndarray:
        """Compute the attention of one layer, given the latents of all tokens so far.

        parameters   as for `queries` and `up_projections`, and "wo.weight" [D, A*dv]
        x            [B, T, D] normalised hidden state of the new tokens
        c_kv, k_pe   [B, S, r], [B, S, dr] latents of all positions up to the newest, the new ones included
        positions    int64 [B, T] of the new tokens
        angle        float64 [B, T, dr/2]
        absorbed     use the absorbed form instead of the expanded one
        returns      [B, T, D]
        """
        q_nope, q_pe = self.queries(parameters, x, angle, config)
        record("q_nope", q_nope)
        record("q_pe", q_pe)
        w_uk, w_uv = self.up_projections(parameters, config)
        attend = self.attend_absorbed if absorbed else self.attend_expanded
        heads = attend(q_nope, q_pe, c_kv, k_pe, w_uk, w_uv, self.visible(positions, c_kv.shape[1]),
                       softmax_scale(config.qk_head_dim, config.yarn), record)
        B, T, A, dv = heads.shape
        return self.linear(self.reshape(heads, (B, T, A * dv)), parameters["wo.weight"])     # [B, T, D]
