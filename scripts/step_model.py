"""The whole tiny model as one flat script, from text to the next token, op by op.

    python scripts/step_model.py
    python -m pdb scripts/step_model.py

It has two blocks of Engram, attention and feed-forward on four residual branches. Composites are written out as single
ops. The last line asserts that the logits are bit-identical to those of the model's `forward`.
"""

import numpy as np

from engram_ref import Addressing, Vocabulary, ops
from engram_ref.model import parameters as model_parameters
from engram_ref.model.transformer import forward
from engram_ref.model_presets import model_preset

np.set_printoptions(precision=3, suppress=True, linewidth=100, edgeitems=2, threshold=60)

# The model, its random parameters, and the text -------------------------------------------------------
config = model_preset("tiny")
backbone, engram = config.backbone, config.engram
attention, experts = backbone.attention, backbone.experts
parameters = model_parameters.initialise(config, np.random.default_rng(0))
vocabulary = Vocabulary.load(engram.vocabulary)
ids = vocabulary.encode("Only Alexander the Great could tame the horse Bucephalus.")[None]     # [B=1, T]
B, T = ids.shape
M, D, A = backbone.n_branches, backbone.hidden_size, attention.n_heads
print("ids            ", ids[0])

# Shared by all blocks: canonical ids, addressing, positions, angles -----------------------------------
canonical_ids = ops.canonicalise(ids, vocabulary.canonical)                     # [B, T]
addressing = Addressing(engram)
history = addressing.start(B)                                                   # the text has no prefix
positions = ops.positions_after(np.zeros(B, dtype=np.int64), T)                 # [B, T]
frequency = ops.frequencies(attention.qk_rope_head_dim, attention.rope_theta, attention.yarn)
angle = ops.angles(positions, frequency)                                        # [B, T, dr/2]
allowed = ops.visible(positions, T)                                             # [B, T, S]
scale = ops.softmax_scale(attention.qk_head_dim, attention.yarn)

# The embedding, copied to every branch ----------------------------------------------------------------
X = ops.expand(ops.embed(parameters["embed.weight"], ids), M)                   # [B, T, M, D]

for index in range(backbone.n_layers):
    p = {name.removeprefix(f"layers.{index}."): array for name, array in parameters.items()}
    print(f"block {index}")

    # Engram: look up the last tokens and add the gated result ------------------------------------------
    layer_id = config.engram_layer(index)
    e = {name.removeprefix("engram."): array for name, array in p.items()}
    windows = ops.windows(canonical_ids, history, addressing.pad_id)            # [B, T, N]
    mixes = ops.mix(windows, addressing.multipliers[layer_id])                  # [B, T, N-1]
    rows = ops.table_rows(mixes, addressing.primes[layer_id])                   # [B, T, C]
    memory = ops.concatenate(ops.gather(e["table"], rows, e["column_offsets"]))     # [B, T, C*W]
    key = np.stack([ops.linear(memory, e["key_weight"][m], e["key_bias"][m]) for m in range(M)], axis=2)
    value = ops.linear(memory, e["value_weight"], e["value_bias"])              # [B, T, D]
    query_norm = ops.rms_norm(X, e["query_gain"], engram.norm_eps)              # [B, T, M, D]
    key_norm = ops.rms_norm(key, e["key_gain"], engram.norm_eps)                # [B, T, M, D]
    gate = ops.gate(ops.score(query_norm, key_norm), engram.gate_form)          # [B, T, M]
    gated = ops.apply_gate(gate, value)                                         # [B, T, M, D]
    conv_norm = ops.rms_norm(gated, e["conv_gain"], engram.conv_norm_eps)
    taps = np.zeros((B, engram.conv_span, M, D))
    conv = ops.silu(ops.short_conv(conv_norm, e["conv_weight"], engram.conv_dilation, taps))
    X = ops.add_residual(X, conv + gated)
    print("  rows         ", rows[0, 3])
    print("  gate         ", gate[0, 3])

    # Attention: read the branches, attend, write the branches --------------------------------------------
    hc = {name.removeprefix("attn_hc."): array for name, array in p.items()}
    pre, post, res = ops.branch_maps(hc, X, backbone.rms_norm_eps, backbone.hyper)
    x = ops.rms_norm(ops.read_branches(X, pre), p["attn_norm.weight"], backbone.rms_norm_eps)      # [B, T, D]
    a = {name.removeprefix("attn."): array for name, array in p.items()}
    q_nope, q_pe = ops.queries(a, x, angle, attention)                          # [B, T, A, dn], [B, T, A, dr]
    c_kv, k_pe = ops.latents(a, x, angle, attention)                            # [B, T, r], [B, T, dr]
    w_uk, w_uv = ops.up_projections(a, attention)                               # [A, dn, r], [A, dv, r]
    heads = ops.attend_expanded(q_nope, q_pe, c_kv, k_pe, w_uk, w_uv, allowed, scale)       # [B, T, A, dv]
    y = ops.linear(heads.reshape(B, T, A * attention.v_head_dim), a["wo.weight"])           # [B, T, D]
    X = ops.write_branches(X, y, post, res)
    print("  read, written", pre[0, 3], post[0, 3])
    print("  residual map ", *res[0, 3])

    # Feed-forward: a dense network in the first block, experts in the second ----------------------------
    hc = {name.removeprefix("ffn_hc."): array for name, array in p.items()}
    pre, post, res = ops.branch_maps(hc, X, backbone.rms_norm_eps, backbone.hyper)
    x = ops.rms_norm(ops.read_branches(X, pre), p["ffn_norm.weight"], backbone.rms_norm_eps)
    f = {name.removeprefix("ffn."): array for name, array in p.items()}
    if index < backbone.n_dense_layers:
        y = ops.swiglu(x, f["w1.weight"], f["w2.weight"], f["w3.weight"])
    else:
        tokens = x.reshape(B * T, D)
        scores = ops.router_scores(tokens, f["gate.weight"], experts.scoring_func)          # [N, E]
        chosen = ops.select_experts(scores, f["gate.bias"], experts)                        # [N, K]
        weights = ops.expert_weights(scores, chosen, experts)                               # [N, K]
        y = ops.routed_grouped(f, tokens, chosen, weights)                                  # [N, D]
        y = y + ops.swiglu(tokens, *(f[f"shared_experts.w{i}.weight"] for i in (1, 2, 3)))
        y = y.reshape(B, T, D)
        print("  experts      ", chosen[3], weights[3])
    X = ops.write_branches(X, y, post, res)

# Collapse the branches and compute logits --------------------------------------------------------------
x = ops.collapse(X, backbone.hyper.collapse, {}, backbone.rms_norm_eps)         # [B, T, D]
x = ops.rms_norm(x, parameters["norm.weight"], backbone.rms_norm_eps)
logits = ops.linear(x, parameters["head.weight"])                               # [B, T, V]
newest = ops.sample(logits[:, -1], 0.0, None)                                   # [B]
print("logits         ", logits[0, -1])
print("next token     ", newest[0], repr(vocabulary.text(int(newest[0]))), "(weights are random)")

assert np.array_equal(logits, forward(parameters, ids, config)), "forward computes different logits"
