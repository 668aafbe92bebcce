"""MLA: both forms against the slow version, the caches, the causal mask, and the order of packed weights."""

from dataclasses import replace

import numpy as np
import pytest

from engram_ref import ops
from engram_ref.model.declarations import attention_shapes
from engram_ref.model_config import AttentionConfig
from engram_ref.oracle.slow import attention as slow
from scripts.builders.small_models import MLA, MLA_LATENT, slow_attention_config
from tests.compare import assert_close

ONE = AttentionConfig(1, 1, 2, 1, 1, None, 1e-20)
WIDE = AttentionConfig(5, 2, 8, 9, 3, 4, 1e-6)
CONFIGS = {"three heads": MLA, "query latent and YaRN": MLA_LATENT, "one of each": ONE, "wide values": WIDE}
D = 9


def case(config, batch=2, length=5, seed=0):
    rng = np.random.default_rng(seed)
    p = {name: 1 + 0.3 * rng.standard_normal(shape) if "norm" in name else rng.standard_normal(shape) / shape[-1] ** 0.5
         for name, shape in attention_shapes(config, D).items()}
    return p, rng.standard_normal((batch, length, D))


def attend(p, x, config, absorbed=False, start=0, cache=None, record=ops.ignore):
    """Apply one layer to the new tokens x, which follow the cached ones."""
    positions = np.broadcast_to(start + np.arange(x.shape[1]), x.shape[:2])
    angle = ops.angles(positions, ops.frequencies(config.qk_rope_head_dim, config.rope_theta, config.yarn))
    c_kv, k_pe = ops.latents(p, x, angle, config)
    if cache is not None:
        c_kv, k_pe = (np.concatenate(pair, axis=1) for pair in zip(cache, (c_kv, k_pe), strict=True))
    return ops.mla(p, x, c_kv, k_pe, positions, angle, config, absorbed, record), (c_kv, k_pe)


@pytest.mark.parametrize("absorbed", [False, True], ids=["expanded", "absorbed"])
@pytest.mark.parametrize("length", [1, 2, 5])
@pytest.mark.parametrize("name", CONFIGS)
def test_mla_matches_the_slow_version(name, length, absorbed):
    config = CONFIGS[name]
    p, x = case(config, 2, length)
    lists = {key: array.tolist() for key, array in p.items()}
    expected = np.array([slow.attention(lists, row, slow_attention_config(config)) for row in x.tolist()])
    result, _ = attend(p, x, config, absorbed)
    assert_close("attention", expected, result, "forms")


@pytest.mark.parametrize("absorbed", [False, True], ids=["expanded", "absorbed"])
def test_weights_match_the_slow_version(absorbed):
    """The scale, including YaRN's factor, applies to the whole score."""
    p, x = case(MLA_LATENT, 1, 4)
    stages, c = {}, slow_attention_config(MLA_LATENT)
    attend(p, x, MLA_LATENT, absorbed, record=stages.__setitem__)
    lists = {key: array.tolist() for key, array in p.items()}
    cached = [slow.latent_and_key(lists, row, t, c) for t, row in enumerate(x[0].tolist())]
    for t, row in enumerate(x[0].tolist()):
        for head, q in enumerate(slow.query(lists, row, t, c)):
            weights = np.array(slow.one_head(lists, q, cached[: t + 1], head, c)[1])
            assert_close("weights", weights, stages["attention_weights"][0, head, t, : t + 1], "forms")
    assert not stages["attention_weights"][0, :, 0, 1:].any()


@pytest.mark.parametrize("absorbed", [False, True], ids=["expanded", "absorbed"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_chunk_attends_to_the_cache_and_itself(name, absorbed):
    config = CONFIGS[name]
    p, x = case(config, 2, 7)
    whole, (c_kv, k_pe) = attend(p, x, config)
    first, cache = attend(p, x[:, :3], config, absorbed)
    second, (c_again, k_again) = attend(p, x[:, 3:], config, absorbed, 3, cache)
    assert_close("attention", whole, np.concatenate([first, second], axis=1), "forms")
    assert_close("c_kv", c_kv, c_again, "forms")
    assert_close("k_pe", k_pe, k_again, "forms")


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (2, 17)], ids=lambda s: f"B={s[0]},T={s[1]}")
@pytest.mark.parametrize("name", CONFIGS)
def test_absorbed_equals_expanded(name, shape):
    p, x = case(CONFIGS[name], *shape, seed=3)
    expanded, absorbed = (attend(p, x, CONFIGS[name], form)[0] for form in (False, True))
    assert_close("attention", expanded, absorbed, "forms")


def test_later_tokens_do_not_change_earlier_outputs():
    p, x = case(MLA, 1, 6)
    other = x.copy()
    other[:, 4:] += 1
    assert_close("before", attend(p, x, MLA)[0][:, :4], attend(p, other, MLA)[0][:, :4], "forms")


def test_every_row_has_its_own_mask():
    result = ops.visible(np.array([[0, 1], [3, 4]]), 6).astype(int).tolist()
    assert result == [[[1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0]], [[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0]]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_of_large_scores(dtype):
    scores = np.array([[[[1e4, -1e4, 9999.0], [-3e38, 3e38, 0.0]]]], dtype=dtype)
    with np.errstate(over="raise", invalid="raise"):
        result = ops.softmax(scores, np.array([[[True, True, True], [True, False, True]]]))
    assert result.dtype == dtype
    assert_close("sums", np.ones((1, 1, 2)), result.sum(axis=-1), "f32" if dtype is np.float32 else "f64", 3)
    assert result[0, 0, 1].tolist() == [0, 0, 1]
    assert result[0, 0, 0, 1] == 0


@pytest.mark.parametrize("keys", [0, 3])
def test_softmax_of_no_queries_is_empty(keys):
    result = ops.softmax(np.zeros((2, 3, 0, keys)), np.zeros((2, 0, keys), dtype=bool))
    assert result.shape == (2, 3, 0, keys)


def test_each_head_packs_key_rows_before_value_rows():
    config = replace(MLA, n_heads=2, qk_nope_head_dim=2, v_head_dim=1, kv_lora_rank=1)
    w_uk, w_uv = ops.up_projections({"wkv_b.weight": np.arange(6.0)[:, None]}, config)
    assert w_uk[..., 0].tolist() == [[0, 1], [3, 4]]
    assert w_uv[..., 0].tolist() == [[2], [5]]


def test_the_unrotated_part_of_a_query_comes_first():
    config = replace(MLA, n_heads=2, qk_nope_head_dim=1, qk_rope_head_dim=2)
    nope, pe = ops.queries({"wq.weight": np.eye(6)}, np.arange(6.0)[None, None], np.zeros((1, 1, 1)), config)
    assert nope[0, 0].tolist() == [[0], [3]]
    assert pe[0, 0].tolist() == [[1, 2], [4, 5]]


def test_the_latent_is_normalised_and_the_key_is_not():
    config = replace(MLA, latent_norm_eps=0.0)
    p, x = case(config, 1, 3)
    angle = ops.angles(np.arange(3)[None], ops.frequencies(4, 1e4))
    c_kv, k_pe = ops.latents(p, x, angle, config)
    c_large, k_large = ops.latents(p, 8 * x, angle, config)            # a power of two causes no rounding
    assert_close("c_kv", c_kv, c_large, "exact")
    assert_close("k_pe", 8 * k_pe, k_large, "exact")
    lengths = np.mean((c_kv / p["kv_norm.weight"]) ** 2, axis=-1)
    assert_close("mean square", np.ones((1, 3)), lengths, "f64", config.kv_lora_rank)
    assert c_kv.shape[-1] + k_pe.shape[-1] == config.kv_lora_rank + config.qk_rope_head_dim


def test_latents_use_latent_norm_eps():
    p, x = case(MLA, 1, 2)
    angle = np.zeros((1, 2, 2))
    for eps in (1e-20, 1e-6, 1e-2):
        c_kv, _ = ops.latents(p, 1e-3 * x, angle, replace(MLA, latent_norm_eps=eps))
        raw = 1e-3 * x @ p["wkv_a.weight"].T[:, : MLA.kv_lora_rank]
        expected = p["kv_norm.weight"] * raw / np.sqrt(np.mean(raw**2, axis=-1, keepdims=True) + eps)
        assert_close(f"eps {eps}", expected, c_kv, "f64", D + MLA.kv_lora_rank)


def test_cache_shapes():
    p, x = case(MLA, 1, 4)
    _, (c_kv, k_pe) = attend(p, x, MLA)
    assert c_kv.shape == (1, 4, 7)
    assert k_pe.shape == (1, 4, 4), "one rotated key for all heads"
