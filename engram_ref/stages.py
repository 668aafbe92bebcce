"""The table of stages: every intermediate result has one public name.

The trace, the command line, vectors, comparisons and tutorials all use these names. A key is a path:
`layers.1.engram.gate` is the stage `gate` of the Engram module in layer 1.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One intermediate result: its name, shape in axis letters (see axes.py), kind of number, meaning."""

    name: str
    axes: str
    kind: str       # "int64" or "float"
    about: str
    formula: str
    op: str         # the function of engram_ref.ops that computes it


STAGES: tuple[Stage, ...] = (
    Stage("canonical_ids", "B T", "int64", "tokens that mean the same get one id",
          "x'[t] = map[x[t]]", "canonicalise"),
    Stage("windows", "B T N", "int64", "the N canonical ids that end at each position, newest first",
          "x'[t], x'[t-1], ..., pad where hidden", "windows"),
    Stage("mix", "B T N-1", "int64", "products with the multipliers, joined by exclusive or, per order",
          "mix_n = x'[t]*m[0] ^ ... ^ x'[t-n+1]*m[n-1]", "mix"),
    Stage("rows", "B T C", "int64", "the table row that each order and head reads",
          "row[n,k] = mix_n mod p[n,k]", "table_rows"),
    Stage("memory", "B T C*W", "float", "the rows read, decoded and laid side by side",
          "e = row of column 0 | ... | row of column C-1", "concatenate"),
    Stage("key", "B T M D", "float", "what the memory says it is about, per branch",
          "k[m] = W_K[m] e", "linear"),
    Stage("value", "B T D", "float", "what the memory has to say, shared by the branches",
          "v = W_V e", "linear"),
    Stage("query_norm", "B T M D", "float", "the hidden state, normalised per branch",
          "RMSNorm(h[m])", "rms_norm"),
    Stage("key_norm", "B T M D", "float", "the key, normalised per branch",
          "RMSNorm(k[m])", "rms_norm"),
    Stage("score", "B T M", "float", "how well state and memory agree",
          "s[m] = <RMSNorm(h[m]), RMSNorm(k[m])> / sqrt(D)", "score"),
    Stage("gate", "B T M", "float", "the factor in [0, 1] that lets the memory in",
          "alpha[m] = sigma(s[m]), or of its signed root", "gate"),
    Stage("gated", "B T M D", "float", "the value, let in by each branch's own gate",
          "u[m] = alpha[m] v", "apply_gate"),
    Stage("conv_norm", "B T M D", "float", "the gated value, normalised for the convolution",
          "RMSNorm(u[m])", "rms_norm"),
    Stage("conv", "B T M D", "float", "the convolution branch after its SiLU",
          "SiLU(conv(RMSNorm(u)))", "short_conv"),
    Stage("output", "B T M D", "float", "Y, what the module adds to the residual stream",
          "Y = SiLU(conv(RMSNorm(u))) + u", "gated_conv"),
    Stage("residual", "B T M D", "float", "the residual stream after the module",
          "H + Y", "add_residual"),
)
"""The stages of the Engram module, in the order they are computed."""

BACKBONE_STAGES: tuple[Stage, ...] = (
    Stage("branch_pre", "B T M", "float", "how much of each branch a site reads",
          "H_pre = sigma(a_pre phi_pre v + b_pre)", "branch_maps"),
    Stage("branch_post", "B T M", "float", "how strongly its answer is written to each branch",
          "H_post = 2 sigma(a_post phi_post v + b_post)", "branch_maps"),
    Stage("branch_residual", "B T M M", "float", "how the branches are carried on: row i is written, column j read",
          "H_res = Sinkhorn(a_res phi_res v + b_res)", "sinkhorn"),
    Stage("c_kv", "B T r", "float", "the latent that attention caches, after its norm",
          "c = RMSNorm((W_kva x)[:r])", "latents"),
    Stage("k_pe", "B T dr", "float", "the turned key that all heads share",
          "k_pe = RoPE((W_kva x)[r:])", "latents"),
    Stage("q_nope", "B T A dn", "float", "each head's query, the part without position",
          "q = W_q x", "queries"),
    Stage("q_pe", "B T A dr", "float", "each head's query, the turned part",
          "RoPE(q[dn:])", "queries"),
    Stage("attention_weights", "B A T S", "float", "what each head looks at",
          "softmax(scale (q_nope k_nope + q_pe k_pe))", "softmax"),
    Stage("attention", "B T D", "float", "attention's answer",
          "W_o (sum_s p_s v_s)", "mla"),
    Stage("experts", "B T K", "int64", "which experts serve the token, best first",
          "top-K of sigma(W_g x) + b", "select_experts"),
    Stage("expert_weights", "B T K", "float", "how much each one's answer counts",
          "w = scale * s / sum s", "expert_weights"),
    Stage("feed_forward", "B T D", "float", "the experts' answer, or the dense network's",
          "sum_k w_k expert_k(x) + shared(x)", "moe"),
    Stage("branches", "B T M D", "float", "the residual branches after a site",
          "X'[i] = sum_j H_res[i,j] X[j] + H_post[i] y", "write_branches"),
    Stage("final_norm", "B T D", "float", "the branches collapsed and normalised",
          "RMSNorm(sum_i X[i])", "collapse"),
    Stage("logits", "B T V", "float", "a score for every next token",
          "W_head x", "linear"),
)
"""Those of the backbone around it; a block has the branch stages twice, at attention and at feed-forward."""

BY_NAME: dict[str, Stage] = {stage.name: stage for stage in (*STAGES, *BACKBONE_STAGES)}


def stage_of(key: str) -> Stage | None:
    """The stage that a key's last part names; None for a key of someone's own.

    >>> stage_of("layers.1.engram.gate").axes
    'B T M'
    """
    return BY_NAME.get(key.rsplit(".", 1)[-1])
