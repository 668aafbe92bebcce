"""Parameters: shapes per preset, the demo's names, and errors that are raised before any computation."""

from dataclasses import replace

import numpy as np
import pytest

from engram_ref import Addressing, InputError, engram, memory, preset, presets
from engram_ref.memory import check_fits
from engram_ref.model.demo import from_engram_demo
from engram_ref.model.engram_parameters import (
    check_parameters,
    column_sizes,
    initialise,
    shapes,
    table_bytes,
    weight_dtype,
)
from engram_ref.ops import decode
from scripts.builders.small_modules import DEMO, DIALECTS, QWEN, V41, demo_names, random_parameters
from tests.compare import assert_close

TWO_LAYERS = replace(DEMO, name="two-layers", layer_ids=(1, 4))
ONE_COLUMN = replace(TWO_LAYERS, name="one-column", max_ngram=2, n_heads=1, table_sizes=(11,))


@pytest.mark.parametrize(("name", "layer", "table"), [
    ("engram-27b", 2, {"table": (36204296, 80)}), ("demo", 1, None), ("tiny", 2, None),
    ("deepseek-v4.1-flash", 1, {"table_codes": (384006168, 256), "table_scales": (384006168, 8)}),
    ("deepseek-v4.1-flash", 14, {"table_codes": (384016682, 256), "table_scales": (384016682, 8)}),
    ("qwen4exp-ple", 2, {"table": (320001536, 160)})], ids=str)
def test_shapes_by_preset(name, layer, table):
    config = preset(name)
    result = shapes(config, layer)
    M, D, memory = config.n_branches, config.hidden_size, config.memory_width
    assert result["key_weight"] == (M, D, memory)
    assert result["value_weight"] == (D, memory)
    assert result["query_gain"] == result["key_gain"] == (M, D)
    assert ("key_bias" in result) == ("value_bias" in result) == (name in ("demo", "tiny"))
    assert ("conv_weight" in result) == ("conv_gain" in result) == (name != "deepseek-v4.1-flash")
    if table and name != "engram-27b":
        assert {key: result[key] for key in table} == table


def table_parameters(name):
    """Number of values in all tables of a preset."""
    config = preset(name)
    return sum(rows * config.row_width for rows in Addressing(config).table_rows.values())


def test_published_sizes():
    assert table_parameters("engram-27b") == 5_792_338_560
    assert table_parameters("engram-40b") == 18_534_311_360
    assert table_parameters("deepseek-v4.1-flash") == 196_613_849_600
    assert shapes(preset("deepseek-v4.1-flash"), 1)["key_weight"] == (4, 5120, 6144)
    v41 = preset("deepseek-v4.1-flash")
    assert sum(table_bytes(v41, layer) for layer in v41.layer_ids) == 202_758_032_400


@pytest.mark.parametrize("name", presets())
def test_every_preset_has_shapes_for_each_of_its_layers_only(name):
    config = preset(name)
    for layer in config.layer_ids:
        assert all(min(shape) > 0 for shape in shapes(config, layer).values())
    with pytest.raises(InputError, match="layer"):
        shapes(config, max(config.layer_ids) + 1)


@pytest.mark.parametrize("config", [*DIALECTS.values(), TWO_LAYERS, ONE_COLUMN], ids=lambda c: c.name)
def test_random_parameters_pass_the_check(config):
    for layer in config.layer_ids:
        made = random_parameters(config, np.random.default_rng(1), layer)
        check_parameters(made, config)
        check_parameters(made, config, layer)


def test_parameters_for_a_different_layer_raise():
    made = random_parameters(TWO_LAYERS, np.random.default_rng(1), 1)
    with pytest.raises(InputError, match=r"parameter table: expected shape \[\d+, 5\]"):
        check_parameters(made, TWO_LAYERS, 4)
    padded = replace(TWO_LAYERS, row_multiple=4096)
    made = random_parameters(padded, np.random.default_rng(1), 1)
    with pytest.raises(InputError, match="column offsets of layer 4 of two-layers"):
        check_parameters(made, padded, 4)
    made["column_offsets"] = made["column_offsets"] + 1
    with pytest.raises(InputError, match="column offsets of layer 1, 4 of two-layers"):
        check_parameters(made, padded)


def test_column_sizes_are_inferred_without_a_layer():
    for layer in TWO_LAYERS.layer_ids:
        made = random_parameters(TWO_LAYERS, np.random.default_rng(1), layer)
        assert column_sizes(made, TWO_LAYERS, None).tolist() == column_sizes(made, TWO_LAYERS, layer).tolist()
    padded = replace(ONE_COLUMN, row_multiple=64)
    made = random_parameters(padded, np.random.default_rng(1), 1)
    assert (column_sizes(made, padded, None).tolist(), column_sizes(made, padded, 1).tolist()) == ([64], [11])


def test_initial_values():
    config = replace(preset("tiny"), hidden_size=40, table_sizes=(997, 1499))
    made = initialise(config, 1, np.random.default_rng(1))
    assert {name: array.shape for name, array in made.items()} == shapes(config, 1)
    assert (made["query_gain"] == 1).all()
    assert (made["key_bias"] == 0).all()
    assert np.abs(made["conv_weight"]).max() <= 0.5
    assert abs(made["table"].std() - 1) < 0.02
    assert abs(made["key_weight"].std() * config.memory_width**0.5 - 1) < 0.05
    again = initialise(config, 1, np.random.default_rng(1))
    for name in made:
        assert_close(name, made[name], again[name], "exact")


def test_initial_values_of_other_dialects():
    config = replace(DEMO, gain_form="zero_centred", conv_init="zeros")
    zero = initialise(config, 1, np.random.default_rng(1), np.float32)
    assert (zero["query_gain"] == 0).all()
    assert (zero["conv_weight"] == 0).all()
    assert {array.dtype.name for name, array in zero.items() if name != "column_offsets"} == {"float32"}


def test_initial_tables_are_stored_with_the_codec(monkeypatch):
    monkeypatch.setattr("engram_ref.model.engram_parameters.ROWS_PER_BLOCK", 7)
    for config in (DEMO, QWEN, V41):
        layer = config.layer_ids[0]
        made = initialise(config, layer, np.random.default_rng(1))
        check_parameters(made, config, layer)
        stored = tuple(made[name] for name in made if name.startswith("table"))
        values = decode(stored, config.table_codec, np.float64)
        dtype = np.float64 if config.table_codec == "fp32" else np.float32
        drawn = np.random.default_rng(1).standard_normal(values.shape, dtype=dtype)
        step = {"fp32": 0, "bf16": 2.0**-8, "fp8_e8m0": 2.0**-4}[config.table_codec]     # half a step of the format
        # Half of E4M3's smallest number times the largest scale, which is less than 2 * max|x| / 448.
        smallest = 2.0**-10 * np.abs(drawn).max() / 224 if config.table_codec == "fp8_e8m0" else 0
        assert (np.abs(values - drawn) <= step * np.abs(drawn) + smallest).all()
        assert {array.dtype.type for name, array in made.items() if name.endswith("weight")} == {weight_dtype(config)}


def test_initial_parameters_of_the_released_dialect_run_through_the_module():
    layer, rng = V41.layer_ids[0], np.random.default_rng(1)
    rows = Addressing(V41).rows([1, 2, 3], layer)
    hidden = rng.standard_normal((3, V41.n_branches, V41.hidden_size), dtype=np.float32)
    made = initialise(V41, layer, rng)
    assert np.isfinite(engram(made, hidden, rows, V41)).all()


def test_a_module_that_is_too_large_raises_with_its_size():
    with pytest.raises(InputError, match=r"engram-40b layer 2, which needs 4096\.0 GiB.*need no weights"):
        check_fits("engram-40b layer 2", 4 * 2**40)
    check_fits("engram-40b layer 2", 2**20)


def test_a_preset_that_is_too_large_raises_before_allocation(monkeypatch):
    monkeypatch.setattr("engram_ref.memory.available", lambda: 2**30)

    class Forbidden(np.random.Generator):
        def __getattribute__(self, name):
            raise AssertionError(f"drew from the generator: {name}")

    forbidden = Forbidden(np.random.PCG64())

    message = r"fit in 1\.0 GiB of memory, found engram-27b layer 2, which needs 21\.\d GiB"
    with pytest.raises(InputError, match=message):
        initialise(preset("engram-27b"), 2, forbidden)
    with pytest.raises(InputError, match=r"found deepseek-v4.1-flash layer 1, which needs 9\d\.\d GiB"):
        initialise(preset("deepseek-v4.1-flash"), 1, forbidden)


def test_available_memory_is_the_smaller_of_free_memory_and_limit(monkeypatch, tmp_path):
    meminfo, limit = tmp_path / "meminfo", tmp_path / "memory.max"
    meminfo.write_text("MemTotal: 99 kB\nMemAvailable: 8 kB\n", encoding="ascii")
    monkeypatch.setattr("engram_ref.memory.MEMINFO", meminfo)
    monkeypatch.setattr("engram_ref.memory.CGROUP_LIMIT", limit)
    assert memory.available() == 8192
    for text, expected in (("max\n", 8192), ("4096\n", 4096)):
        limit.write_text(text, encoding="ascii")
        assert memory.available() == expected
    meminfo.unlink()
    assert memory.available() == 4096
    limit.unlink()
    assert memory.available() > 2**20


def demo_case(config=DEMO):
    parameters = random_parameters(config, np.random.default_rng(2))
    return parameters, demo_names(parameters, config)


@pytest.mark.parametrize("biased", [True, False], ids=["biased", "plain"])
def test_demo_names_are_translated(biased):
    config = replace(DEMO, projection_bias=biased)
    parameters, state_dict = demo_case(config)
    state_dict = {name: array for name, array in state_dict.items() if biased or not name.endswith(".bias")}
    made = from_engram_demo(state_dict, config)
    assert made.keys() == parameters.keys()
    for name, array in parameters.items():
        assert_close(name, array, made[name], "exact")


def test_the_demo_layer_is_required_if_there_are_several():
    _, state_dict = demo_case(TWO_LAYERS)
    assert from_engram_demo(state_dict, TWO_LAYERS, 1)["column_offsets"].tolist() == \
        Addressing(TWO_LAYERS).offsets[1].tolist()
    with pytest.raises(InputError, match="layer_id"):
        from_engram_demo(state_dict, TWO_LAYERS)
    with pytest.raises(InputError, match="shape"):
        from_engram_demo(state_dict, TWO_LAYERS, 4)


def test_the_demo_offsets_buffer_is_checked():
    _, state_dict = demo_case()
    right = Addressing(DEMO).offsets[1]
    assert "table" in from_engram_demo(state_dict | {"multi_head_embedding.offsets": right}, DEMO)
    with pytest.raises(InputError, match="offsets"):
        from_engram_demo(state_dict | {"multi_head_embedding.offsets": right + 1}, DEMO)


BAD_STATE_DICTS = {
    "a missing array": (lambda s: s.pop("norm1.2.weight"), r"norm1\.2\.weight"),
    "a missing table": (lambda s: s.pop("multi_head_embedding.embedding.weight"), "embedding"),
    "an extra array": (lambda s: s.update({"gate.weight": np.zeros(3)}), r"gate\.weight"),
    "an extra branch": (lambda s: s.update({"norm1.3.weight": np.zeros(10)}), r"norm1\.3\.weight"),
    "a short table": (lambda s: s.update({"multi_head_embedding.embedding.weight": np.zeros((9, 5))}), "table"),
    "a transposed projection": (lambda s: s.update({"value_proj.weight": s["value_proj.weight"].T}), "value"),
    "transposed keys": (lambda s: s.update({f"key_projs.{m}.weight": s[f"key_projs.{m}.weight"].T
                                            for m in range(3)}), "key"),
    "one transposed key": (lambda s: s.update({"key_projs.1.weight": s["key_projs.1.weight"].T}), "key"),
    "tap-major conv weights": (lambda s: s.update({"short_conv.conv.weight": s["short_conv.conv.weight"].T}), "conv"),
    "integers": (lambda s: s.update({"value_proj.bias": np.zeros(10, dtype=int)}), "value_bias|value_proj"),
}


@pytest.mark.parametrize("case", BAD_STATE_DICTS)
def test_an_invalid_state_dict_raises(case):
    _, state_dict = demo_case()
    change, message = BAD_STATE_DICTS[case]
    change(state_dict)
    with pytest.raises(InputError, match=message):
        from_engram_demo(state_dict, DEMO)


GATE_FIELDS = ("score_form", "gate_form", "gain_form", "norm_eps", "projection_bias", "conv_kernel",
               "conv_dilation", "rounding")
SOURCES = {
    **dict.fromkeys(("paper", "engram-27b", "engram-40b"),
                    ("normalised", "sigmoid", "plain", 1e-20, False, 4, 3, "none")),
    **dict.fromkeys(("demo", "tiny"), ("normalised", "signed_sqrt", "plain", None, True, 4, 3, "none")),
    "deepseek-v4.1-flash": ("factored", "copysign_sqrt", "plain", 1e-20, False, 0, 1, "fp8_bf16"),
    "qwen4exp-ple": ("normalised", "signed_sqrt", "zero_centred", 1e-6, False, 4, 3, "none"),
}


@pytest.mark.parametrize("name", ["paper", *presets()])
def test_presets_match_their_sources(name):
    assert name in SOURCES, f"add to SOURCES what the source of {name} states"
    assert tuple(getattr(preset(name), field) for field in GATE_FIELDS) == SOURCES[name]


@pytest.mark.parametrize("dtype", ["float32", np.dtype("<f8"), np.float64, float], ids=repr)
def test_dtypes_may_have_any_spelling(dtype):
    assert initialise(DEMO, 1, np.random.default_rng(1), dtype)["key_weight"].dtype == np.dtype(dtype)


@pytest.mark.parametrize("dtype", ["float16", np.int64, "floaty", 3, np.longdouble], ids=repr)
def test_unsupported_dtypes_raise(dtype):
    with pytest.raises(InputError, match="dtype: expected float32 or float64"):
        initialise(DEMO, 1, np.random.default_rng(1), dtype)
