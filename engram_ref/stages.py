"""Stages: every intermediate result has one public name.

The trace, the command line, golden vectors, comparisons and tutorials all use these names. A key is a path:
`layers.1.engram.gate` is the stage `gate` of the Engram module in layer 1.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One intermediate result: name, shape in axis letters (see axes.py), kind of number, meaning, formula and op."""

    name: str
    axes: str
    kind: str       # "int64" or "float"
    about: str
    formula: str
    op: str         # the function of engram_ref.ops that computes it


STAGES: tuple[Stage, ...] = (
    Stage("canonical_ids", "B T", "int64", "one id per class of tokens with equal normalised text",
          "x'[t] = map[x[t]]", "canonicalise"),
    Stage("windows", "B T N", "int64", "the N canonical ids that end at each position, newest first",
          "x'[t], x'[t-1], ..., with the fill for hidden tokens", "windows"),
    Stage("mix", "B T N-1", "int64", "products of ids and multipliers, combined by exclusive or, per order",
          "mix_n = x'[t]*m[0] ^ ... ^ x'[t-n+1]*m[n-1]", "mix"),
    Stage("rows", "B T C", "int64", "the table row that each order and head reads",
          "row[n,k] = mix_n mod p[n,k]", "table_rows"),
    Stage("memory", "B T C*W", "float", "the selected rows, decoded and concatenated",
          "e = row of column 0 | ... | row of column C-1", "concatenate"),
    Stage("key", "B T M D", "float", "the key that is compared with the hidden state, per branch",
          "k[m] = W_K[m] e", "linear"),
    Stage("value", "B T D", "float", "the value that the gate scales, shared by the branches",
          "v = W_V e", "linear"),
    Stage("query_norm", "B T M D", "float", "the hidden state, normalised per branch",
          "RMSNorm(h[m])", "rms_norm"),
    Stage("key_norm", "B T M D", "float", "the key, normalised per branch",
          "RMSNorm(k[m])", "rms_norm"),
    Stage("score", "B T M", "float", "the agreement of hidden state and key",
          "s[m] = <RMSNorm(h[m]), RMSNorm(k[m])> / sqrt(D)", "score"),
    Stage("gate", "B T M", "float", "the factor in [0, 1] that scales the value",
          "alpha[m] = sigma(s[m]), or of its signed root", "gate"),
    Stage("gated", "B T M D", "float", "the value, scaled by each branch's gate",
          "u[m] = alpha[m] v", "apply_gate"),
    Stage("conv_norm", "B T M D", "float", "the gated value, normalised for the convolution",
          "RMSNorm(u[m])", "rms_norm"),
    Stage("conv", "B T M D", "float", "the output of the convolution, after SiLU",
          "SiLU(conv(RMSNorm(u)))", "short_conv"),
    Stage("output", "B T M D", "float", "Y, which the module adds to the residual stream",
          "Y = SiLU(conv(RMSNorm(u))) + u", "gated_conv"),
    Stage("residual", "B T M D", "float", "the residual stream after the module",
          "H + Y", "add_residual"),
)
"""The stages of the Engram module, in the order they are computed."""

BACKBONE_STAGES: tuple[Stage, ...] = (
    Stage("branch_pre", "B T M", "float", "the weight of each branch in the input of a site",
          "H_pre = sigma(a_pre phi_pre v + b_pre)", "branch_maps"),
    Stage("branch_post", "B T M", "float", "the weight of a site's output in each branch",
          "H_post = 2 sigma(a_post phi_post v + b_post)", "branch_maps"),
    Stage("branch_residual", "B T M M", "float", "the mixing of the branches: row i is written, column j is read",
          "H_res = Sinkhorn(a_res phi_res v + b_res)", "sinkhorn"),
    Stage("c_kv", "B T r", "float", "the latent that attention caches, after its norm",
          "c = RMSNorm((W_kva x)[:r])", "latents"),
    Stage("k_pe", "B T dr", "float", "the rotated key shared by all heads",
          "k_pe = RoPE((W_kva x)[r:])", "latents"),
    Stage("q_nope", "B T A dn", "float", "each head's query, the channels without position",
          "q = W_q x", "queries"),
    Stage("q_pe", "B T A dr", "float", "each head's query, the rotated channels",
          "RoPE(q[dn:])", "queries"),
    Stage("attention_weights", "B A T S", "float", "each head's weights over the visible tokens",
          "softmax(scale (q_nope k_nope + q_pe k_pe))", "softmax"),
    Stage("attention", "B T D", "float", "the output of attention",
          "W_o (sum_s p_s v_s)", "mla"),
    Stage("experts", "B T K", "int64", "the experts chosen for the token, best first",
          "top-K of sigma(W_g x) + b", "select_experts"),
    Stage("expert_weights", "B T K", "float", "the weight of each chosen expert's output",
          "w = scale * s / sum s", "expert_weights"),
    Stage("feed_forward", "B T D", "float", "the output of the experts or of the dense network",
          "sum_k w_k expert_k(x) + shared(x)", "moe"),
    Stage("branches", "B T M D", "float", "the residual branches after a site",
          "X'[i] = sum_j H_res[i,j] X[j] + H_post[i] y", "write_branches"),
    Stage("final_norm", "B T D", "float", "the branches collapsed and normalised",
          "RMSNorm(sum_i X[i])", "collapse"),
    Stage("logits", "B T V", "float", "a score for every possible next token",
          "W_head x", "linear"),
)
"""The stages of the backbone; each block has the branch stages twice, for attention and for feed-forward."""

BY_NAME: dict[str, Stage] = {stage.name: stage for stage in (*STAGES, *BACKBONE_STAGES)}


def stage_of(key: str) -> Stage | None:
    """Return the stage named by the last part of a key, or None if it names no stage.

    >>> stage_of("layers.1.engram.gate").axes
    'B T M'
    """
    return BY_NAME.get(key.rsplit(".", 1)[-1])
