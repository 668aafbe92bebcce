"""Whole models on disk: round trips, and errors that name the damaged array."""

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from engram_ref import InputError
from engram_ref.model.parameters import check, initialise, load, save, shapes
from engram_ref.model.transformer import forward
from engram_ref.model_presets import model_preset, model_presets
from scripts.builders.small_models import DENSE, FULL, HEAD, MODELS, PLAIN, random_ids, random_model
from tests.compare import assert_close

BF16 = replace(FULL, name="bf16-tables", engram=replace(FULL.engram, table_codec="bf16"))


def with_bf16_tables(config):
    return {name: array.astype(ml_dtypes.bfloat16) if name.endswith("engram.table") else array
            for name, array in random_model(config).items()}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", MODELS)
def test_save_and_load_round_trip(name, dtype, tmp_path):
    config, parameters = MODELS[name], random_model(MODELS[name], dtype=dtype)
    save(dict(reversed(parameters.items())), tmp_path / "model.safetensors")
    result = load(tmp_path / "model.safetensors", config)
    assert list(result) == list(shapes(config)), "in the order of the tree"
    for key, array in parameters.items():
        assert result[key].dtype == array.dtype
        assert_close(key, array, result[key], "exact")


def test_bf16_tables_round_trip(tmp_path):
    parameters = with_bf16_tables(BF16)
    save(parameters, tmp_path / "model.safetensors")
    result = load(tmp_path / "model.safetensors", BF16)
    table = "layers.0.engram.table"
    assert result[table].dtype == ml_dtypes.bfloat16
    assert result[table].tobytes() == parameters[table].tobytes()


def test_views_are_saved_with_their_values(tmp_path):
    parameters = random_model(PLAIN)
    wanted = parameters["head.weight"].copy()
    parameters["head.weight"] = np.asfortranarray(wanted)
    save(parameters, tmp_path / "model.safetensors")
    assert_close("head", wanted, load(tmp_path / "model.safetensors", PLAIN)["head.weight"], "exact")


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "model.safetensors"
    save(random_model(PLAIN), path)
    return path


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999, 1.0], ids=lambda s: f"{s:.1%} left")
def test_a_truncated_file_raises(stored, share):
    data = stored.read_bytes()
    stored.write_bytes(data[: min(int(share * len(data)), len(data) - 1)])
    with pytest.raises(InputError, match=r"model\.safetensors: expected a complete safetensors file.*truncated"):
        load(stored, PLAIN)


def test_a_changed_byte_raises_with_the_tensors_name(stored):
    """Flips one bit in the middle of a tensor, at the offsets in the file's header."""
    import json

    data = bytearray(stored.read_bytes())
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    header.pop("__metadata__")
    begin = 8 + int.from_bytes(data[:8], "little")
    for name in ("embed.weight", "layers.1.ffn.gate.bias", "norm.weight"):
        damaged, (start, end) = data.copy(), header[name]["data_offsets"]
        damaged[begin + (start + end) // 2] ^= 1
        stored.write_bytes(damaged)
        with pytest.raises(InputError, match=f"the stored digest of {name}, found a different digest"):
            load(stored, PLAIN)


def test_a_file_from_a_different_program_raises(tmp_path):
    save_file(random_model(PLAIN), tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="not written by engram_ref"):
        load(tmp_path / "other.safetensors", PLAIN)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\xff" * 100], ids=["empty", "text", "bytes"])
def test_a_file_without_a_model_raises(tmp_path, content):
    (tmp_path / "other.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="a complete safetensors file"):
        load(tmp_path / "other.safetensors", PLAIN)


def test_a_missing_file_and_a_missing_folder_raise(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.safetensors.*no file at this path"):
        load(tmp_path / "nowhere.safetensors", PLAIN)
    with pytest.raises(InputError, match="an existing folder"):
        save(random_model(PLAIN), tmp_path / "no" / "model.safetensors")


def changed(name, change):
    def edit(parameters):
        array = parameters.pop(name)
        return parameters | ({} if change is None else {name: change(array)})
    return edit


def with_value(value):
    def change(array):
        array = array.copy()
        array.flat[-1] = value
        return array
    return change


WQ, TABLE, OFFSETS = "layers.1.attn.wq_b.weight", "layers.0.engram.table", "layers.0.engram.column_offsets"
DAMAGE = {
    "missing": (changed(WQ, None), f"an array named {WQ} .*found none"),
    "missing table": (changed(TABLE, None), f"an array named {TABLE}"),
    "extra": (lambda p: p | {"layers.9.attn.wo.weight": np.zeros(3)}, r"layers\.9\.attn\.wo\.weight"),
    "transposed": (changed(WQ, lambda a: a.T), rf"{WQ}: expected shape \[18, 5\], found shape \[5, 18\]"),
    "a missing row": (changed(TABLE, lambda a: a[:-1]), f"{TABLE}: expected shape"),
    "NaN": (changed(WQ, with_value(np.nan)), f"{WQ}: expected finite values"),
    "infinite": (changed("norm.weight", with_value(-np.inf)), "norm.weight: expected finite values"),
    "infinite in a table": (changed(TABLE, with_value(np.inf)), f"{TABLE}: expected finite values"),
    "offsets of a different layer": (changed(OFFSETS, lambda a: a + 1), "column_offsets"),
    "wrong precision": (changed(WQ, lambda a: a.astype(np.float32)), f"{WQ}.*dtype"),
    "integers": (changed(WQ, lambda a: a.astype(np.int64)), f"{WQ}.*dtype"),
    "complex": (changed(WQ, lambda a: a.astype(np.complex64)), f"{WQ}.*complex64"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_invalid_parameters_raise_with_their_name(damage, message, tmp_path):
    parameters = damage(dict(random_model(FULL)))
    with pytest.raises(InputError, match=message):
        check(parameters, FULL, tables=True)
    with pytest.raises(InputError, match=message):
        save(parameters, tmp_path / "model.safetensors")
        load(tmp_path / "model.safetensors", FULL)


def test_table_values_are_checked_only_on_request():
    parameters = changed(TABLE, with_value(np.nan))(dict(random_model(FULL)))
    check(parameters, FULL)
    forward(parameters, random_ids(FULL), FULL)
    with pytest.raises(InputError, match=f"{TABLE}: expected finite values"):
        check(parameters, FULL, tables=True)


def test_loading_with_a_different_configuration_raises(tmp_path):
    save(random_model(HEAD), tmp_path / "model.safetensors")
    with pytest.raises(InputError):
        load(tmp_path / "model.safetensors", PLAIN)
    assert load(tmp_path / "model.safetensors", HEAD)


def test_a_failed_load_leaves_model_and_file_unchanged(stored):
    model = load(stored, PLAIN)
    kept = {name: array.copy() for name, array in model.items()}
    data = stored.read_bytes()
    stored.write_bytes(data[:-1])
    with pytest.raises(InputError):
        model |= load(stored, PLAIN)
    assert stored.read_bytes() == data[:-1]
    for name, array in kept.items():
        assert_close(name, array, model[name], "exact")


def test_a_failed_save_leaves_the_old_file(stored, monkeypatch):
    import os

    data = stored.read_bytes()
    monkeypatch.setattr(os, "replace", lambda *a: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(InputError, match="No space left"):
        save(random_model(PLAIN, 1), stored)
    assert stored.read_bytes() == data
    assert list(stored.parent.iterdir()) == [stored]


def test_a_saved_file_opens_in_other_programs(stored):
    result = load_file(stored)
    for name, array in random_model(PLAIN).items():
        assert_close(name, array, result[name], "exact")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("config", [FULL, HEAD, DENSE], ids=lambda c: c.name)
def test_initial_values(config, dtype):
    result, again = (initialise(config, np.random.default_rng(3), dtype) for _ in range(2))
    check(result, config)
    assert list(result) == list(shapes(config))
    for name, array in result.items():
        assert_close(name, again[name], array, "exact")
        assert array.dtype == (np.int64 if name.endswith("column_offsets") else dtype)
        if name.endswith(("norm.weight", "gain")):
            assert (array == 1).all()
        elif name.endswith("bias"):
            assert not array.any()
        elif name.endswith("alpha"):
            assert (array == dtype(config.backbone.hyper.alpha_init)).all()


@pytest.mark.parametrize("name", model_presets())
def test_every_preset_has_a_tree(name):
    config = model_preset(name)
    result, b = shapes(config), config.backbone
    assert result["embed.weight"] == result["head.weight"] == (b.vocab_size, b.hidden_size)
    assert ("layers.0.attn_hc.phi" in result) == (b.hyper is not None)
    assert ("layers.0.attn.wq.weight" in result) == (b.attention.q_lora_rank is None)
    assert ("layers.1.ffn.gate.bias" in result) == (b.experts is not None and b.n_dense_layers == 1)
    last = f"layers.{b.n_layers - 1}."
    assert any(key.startswith(last) for key in result)


def test_the_27b_layer_has_the_published_shapes():
    result = shapes(model_preset("engram-27b"))
    assert [result[f"layers.1.attn.{name}.weight"] for name in ("wq", "wkv_a", "wkv_b", "wo")] == [
        (6144, 2560), (576, 2560), (8192, 512), (2560, 4096)]
    assert result["layers.1.attn_hc.phi"] == (24, 10_240)
    assert result["layers.1.ffn.experts.w2"] == (55, 2560, 1536)
    assert result["layers.1.ffn.shared_experts.w1.weight"] == (3072, 2560)


def test_a_model_that_is_too_large_raises_before_allocation():
    with pytest.raises(InputError, match=r"v3-like, which needs .* GiB"):
        initialise(model_preset("v3-like"), np.random.default_rng(0))
