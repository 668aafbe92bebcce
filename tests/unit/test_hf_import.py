"""Loading HF's DeepSeek-V3 names and configurations, and errors for state dicts that do not match."""

import ml_dtypes
import numpy as np
import pytest

from engram_ref import InputError
from engram_ref.model.hf import from_hf_deepseek_v3
from engram_ref.model.hf_config import config_from_hf
from engram_ref.model.parameters import shapes
from engram_ref.model.transformer import forward
from engram_ref.ops import half_split_order
from tests.compare import assert_close
from tests.unit.test_hf_options import HF

ATTENTION = {"self_attn.q_proj.weight": (14, 6), "self_attn.kv_a_proj_with_mqa.weight": (9, 6),
             "self_attn.kv_a_layernorm.weight": (3,), "self_attn.kv_b_proj.weight": (6, 3),
             "self_attn.o_proj.weight": (6, 4), "input_layernorm.weight": (6,), "post_attention_layernorm.weight": (6,)}
DENSE = {"mlp.gate_proj.weight": (5, 6), "mlp.up_proj.weight": (5, 6), "mlp.down_proj.weight": (6, 5)}
EXPERTS = {"mlp.gate.weight": (4, 6), "mlp.gate.e_score_correction_bias": (4,), "mlp.experts.gate_up_proj": (4, 6, 6),
           "mlp.experts.down_proj": (4, 6, 3), "mlp.shared_experts.gate_proj.weight": (6, 6),
           "mlp.shared_experts.up_proj.weight": (6, 6), "mlp.shared_experts.down_proj.weight": (6, 6)}
IDS = np.array([[3, 1, 4, 1, 5, 9, 2, 6]])


def state_dict(seed=0):
    """Random arrays under the parameter names of HF's classes."""
    rng = np.random.default_rng(seed)
    named = {"model.embed_tokens.weight": (11, 6), "model.norm.weight": (6,), "lm_head.weight": (11, 6)}
    for i, feed_forward in enumerate((DENSE, EXPERTS)):
        named |= {f"model.layers.{i}.{name}": shape for name, shape in (ATTENTION | feed_forward).items()}
    return {name: rng.standard_normal(shape) for name, shape in named.items()}


def logits(state, hf=HF):
    config, parameters = from_hf_deepseek_v3(state, hf)
    return forward(parameters, IDS, config)


def test_names_are_translated_and_experts_unpacked():
    state = state_dict()
    kept = dict(state)
    config, result = from_hf_deepseek_v3(state, HF)
    assert list(result) == list(shapes(config))
    packed = state["model.layers.1.mlp.experts.gate_up_proj"]
    assert_close("w1 is the gate, first", packed[:, :3], result["layers.1.ffn.experts.w1"], "exact")
    assert_close("w3 is up, second", packed[:, 3:], result["layers.1.ffn.experts.w3"], "exact")
    assert_close("w2", state["model.layers.1.mlp.experts.down_proj"], result["layers.1.ffn.experts.w2"], "exact")
    assert_close("dense w2", state["model.layers.0.mlp.down_proj.weight"], result["layers.0.ffn.w2.weight"], "exact")
    assert_close("dense w3", state["model.layers.0.mlp.up_proj.weight"], result["layers.0.ffn.w3.weight"], "exact")
    assert state.keys() == kept.keys(), "the caller's dictionary is not modified"


def test_separate_experts_give_the_same_model():
    state, prefix = state_dict(), "model.layers.1.mlp.experts."
    whole = logits(state)
    packed, down = state.pop(prefix + "gate_up_proj"), state.pop(prefix + "down_proj")
    for e in range(4):
        state |= {f"{prefix}{e}.gate_proj.weight": packed[e, :3], f"{prefix}{e}.up_proj.weight": packed[e, 3:],
                  f"{prefix}{e}.down_proj.weight": down[e]}
    assert_close("logits", whole, logits(state), "exact")
    del state[prefix + "2.up_proj.weight"]
    with pytest.raises(InputError, match=r"experts\.\d\.up_proj"):
        logits(state)


def test_rope_interleave_none_means_half_split():
    """None means half-split, as in HF's class. If the option is absent, channels are adjacent pairs."""
    state = state_dict()
    halves, none = (logits(state, HF | {"rope_interleave": value}) for value in (False, None))
    assert_close("None", halves, none, "exact")
    absent = {key: value for key, value in HF.items() if key != "rope_interleave"}
    assert_close("absent", logits(state), logits(state, absent), "exact")
    assert np.abs(halves - logits(state)).max() > 1e-3


@pytest.mark.parametrize("q_lora_rank", [None, 4])
def test_half_split_weights_are_reordered(q_lora_rank):
    """A half-split checkpoint, made from ours with the published order, loads as ours."""
    state, hf = state_dict(), HF | {"q_lora_rank": q_lora_rank}
    query = "self_attn.q_proj.weight" if q_lora_rank is None else "self_attn.q_b_proj.weight"
    rng, order = np.random.default_rng(5), half_split_order(6)
    # the checkpoint, with a query latent if q_lora_rank is given
    for i in range(2):
        if q_lora_rank is not None:
            del state[f"model.layers.{i}.self_attn.q_proj.weight"]
            state[f"model.layers.{i}.self_attn.q_a_proj.weight"] = rng.standard_normal((4, 6))
            state[f"model.layers.{i}.self_attn.q_a_layernorm.weight"] = rng.standard_normal(4)
            state[f"model.layers.{i}.{query}"] = rng.standard_normal((14, 4))
    _, ours = from_hf_deepseek_v3(state, hf)
    # the same with half-split channels: permute the rotary rows of queries and of the shared key
    halves = dict(state)
    for i in range(2):
        heads = state[f"model.layers.{i}.{query}"].reshape(2, 7, -1)
        halves[f"model.layers.{i}.{query}"] = np.concatenate([heads[:, :1], heads[:, 1:][:, order]], 1).reshape(14, -1)
        key = f"model.layers.{i}.self_attn.kv_a_proj_with_mqa.weight"
        halves[key] = np.concatenate([state[key][:3], state[key][3:][order]])
    _, result = from_hf_deepseek_v3(halves, hf | {"rope_interleave": False})
    for name, array in ours.items():
        assert_close(name, array, result[name], "exact")


def test_a_model_with_only_dense_layers_and_tied_embeddings():
    state = {name: array for name, array in state_dict().items() if ".layers.1." not in name}
    hf = HF | {"num_hidden_layers": 1, "first_k_dense_replace": 3, "tie_word_embeddings": True}
    with pytest.raises(InputError, match=r"lm_head\.weight.*tie_word_embeddings"):
        logits(state, hf)
    tied = logits(state | {"lm_head.weight": state["model.embed_tokens.weight"]}, hf)
    del state["lm_head.weight"]
    assert_close("logits", tied, logits(state, hf), "exact")
    assert config_from_hf(hf).backbone.experts is None


PACKED, DOWN = "model.layers.1.mlp.experts.gate_up_proj", "model.layers.1.mlp.experts.down_proj"
Q = "model.layers.0.self_attn.q_proj.weight"
EXTRA = {f"model.layers.2.{name}": np.ones(3) for name in ("enorm.weight", "hnorm.weight", "eh_proj.weight",
                                                           "shared_head.norm.weight", "embed_tokens.weight")}


def test_prediction_layers_are_skipped_and_logged(caplog):
    state = state_dict()
    whole = logits(state)
    assert not caplog.records
    for count in ({}, {"num_nextn_predict_layers": 1}, {"num_mtp_layers": 2}):
        caplog.clear()
        assert_close("logits", whole, logits(state | EXTRA, HF | count), "exact")
        assert caplog.messages == ["skipped 5 entries named model.layers.2.*: multi-token prediction is not supported"]


@pytest.mark.parametrize("option", ["num_nextn_predict_layers", "num_mtp_layers"])
@pytest.mark.parametrize("count", [0, None])
def test_undeclared_prediction_layers_raise(option, count):
    with pytest.raises(InputError, match=r"an additional array named model\.layers\.2\."):
        from_hf_deepseek_v3(state_dict() | EXTRA, HF | {option: count})


def test_a_shared_expert_of_width_0_is_omitted():
    """HF stores three empty arrays for it."""
    hf, state = HF | {"n_shared_experts": 0}, state_dict()
    shared = {key: array for key, array in state.items() if "shared_experts" in key}
    for key, array in shared.items():
        del state[key]
        state[key] = np.zeros((0, 6) if "down" not in key else (6, 0), array.dtype)
    config, result = from_hf_deepseek_v3(state, hf)
    assert config.backbone.experts.n_shared_experts == 0 and list(result) == list(shapes(config))


DAMAGE = {
    "missing": (lambda s: s.pop("model.norm.weight"), r"an array named model\.norm\.weight"),
    "missing bias": (lambda s: s.pop("model.layers.1.mlp.gate.e_score_correction_bias"), "e_score_correction_bias"),
    "missing gates": (lambda s: s.pop(PACKED), "gate_up_proj"),
    "missing down": (lambda s: s.pop(DOWN), "down_proj"),
    "all experts missing": (lambda s: (s.pop(PACKED), s.pop(DOWN)), "experts"),
    "extra": (lambda s: s.update({"model.layers.2.input_layernorm.weight": np.zeros(6)}), r"model\.layers\.2"),
    "a query bias": (lambda s: s.update({"model.layers.0.self_attn.q_proj.bias": np.zeros(14)}), "q_proj.bias"),
    "misshapen": (lambda s: s.update({Q: np.zeros((14, 5))}), "wq.weight"),
    "packed with an odd width": (lambda s: s.update({PACKED: np.zeros((4, 5, 6))}), "gate_up_proj"),
    "wrong dtype": (lambda s: s.update({Q: np.zeros((14, 6), int)}), r"q_proj\.weight \(.*wq.*int64"),
    "FP8": (lambda s: s.update({Q: np.zeros((14, 6), ml_dtypes.float8_e4m3fn)}), r"q_proj\.weight.*bfloat16"),
    "FP8 with scales": (lambda s: s.update({Q + "_scale_inv": np.ones((1, 1))}), r"weight_scale_inv.*bfloat16"),
    "one misshapen expert": (lambda s: s.update({f"model.layers.1.mlp.experts.{e}.{which}_proj.weight":
                                                 np.zeros((3 - e, 6) if which != "down" else (6, 3))
                                                 for e in range(4) for which in ("gate", "up", "down")})
                             or (s.pop(PACKED), s.pop(DOWN)),
                             r"experts\.1\.gate_proj\.weight \(.*w1.*\[3, 6\], found shape \[2, 6\]"),
    "not finite": (lambda s: s.update({Q: np.full((14, 6), np.nan)}), "wq.weight: expected finite"),
}


@pytest.mark.parametrize("interleave", [True, False], ids=["pairs", "halves"])
@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_an_invalid_state_dict_raises(damage, message, interleave):
    state = state_dict()
    damage(state)
    with pytest.raises(InputError, match=message):
        from_hf_deepseek_v3(state, HF | {"rope_interleave": interleave})


def test_misshapen_rotary_rows_raise_before_they_are_reordered():
    state = state_dict() | {Q: np.zeros((13, 6))}
    with pytest.raises(InputError, match=r"wq\.weight"):
        from_hf_deepseek_v3(state, HF | {"rope_interleave": False})
