"""Frozen results of HF transformers' DeepSeek classes, from scripts/freeze_hf.py; checked without torch."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from engram_ref import Trace
from engram_ref.model.hf import from_hf_deepseek_v3
from engram_ref.model.transformer import forward
from engram_ref.model_config import HyperConfig
from engram_ref.ops import branch_maps, collapse, read_branches, write_branches
from tests.bounds_backbone import (
    float32_roundings,
    logit_scale,
    logit_scale_of_maps,
    matrix_scale,
    weight_scale,
)
from tests.compare import assert_close

FOLDER = Path(__file__).parent
MODELS = sorted(path.stem for path in FOLDER.glob("hf-v3-*.safetensors"))
LARGEST_FILE = 300 * 1024
V4 = HyperConfig(hc_mult=4, iterations=20, pre_eps=1e-6, sinkhorn_eps=1e-6)
EPS = 1e-6


def read(name):
    """Return the arrays by name and the metadata of one frozen file."""
    with safe_open(FOLDER / f"{name}.safetensors", framework="numpy") as stored:
        return {key: stored.get_tensor(key) for key in stored.keys()}, stored.metadata()  # noqa: SIM118  not a dict


def check_logits(state_dict, hf_config, ids, expected):
    """Compare both forms of `forward` with HF's logits, within the error of HF's float32 internals."""
    config, parameters = from_hf_deepseek_v3(state_dict, hf_config)
    trace = Trace()
    expanded = forward(parameters, ids, config, trace=trace)
    roundings = float32_roundings(config, ids.shape[1])
    scale = logit_scale(trace["final_norm"], parameters.get("head.weight", parameters["embed.weight"]))
    assert_close("logits", expected, expanded, "internals", roundings, scale)
    absorbed = forward(parameters, ids, config, absorbed=True)
    assert_close("logits, absorbed", expected, absorbed, "internals", roundings, scale)


def transposed(rows):
    """Transpose the 16 rows of the matrix from HF's [read, written] to [written, read]."""
    M = V4.hc_mult
    matrix = rows[2 * M :].reshape(M, M, -1).swapaxes(0, 1).reshape(rows[2 * M :].shape)
    return np.concatenate([rows[: 2 * M], matrix])


def check_branches(arrays):
    """Compare maps, reading, writing and collapse with HF's, which applies `comb` transposed."""
    a = {name: array.astype(np.float64) for name, array in arrays.items()}
    site = {"phi": transposed(a["site.fn"]), "bias": transposed(a["site.base"]), "alpha": a["site.scale"]}
    X = a["state"]
    pre, post, res = branch_maps(site, X, EPS, V4)
    logits, reach = logit_scale_of_maps(site, X, EPS), np.abs(X).sum(axis=2)     # [B, T, 24], [B, T, D]
    M, D = X.shape[2:]
    matrix = matrix_scale(logits[..., 2 * M :], M, V4.iterations, M * D)
    assert_close("post", post, arrays["post"], "f32", M * D, 2 * weight_scale(logits[..., M : 2 * M]))
    assert_close("res", res.swapaxes(-1, -2), arrays["comb"], "f32", M * D, matrix)
    assert_close("read", read_branches(X, pre), arrays["read"], "f32", M * D + M,
                 weight_scale(logits[..., :M].max(axis=-1))[..., None] * reach)
    expected = np.einsum("btio,btid->btod", a["comb"], X)                    # HF's matrix, [read, written]
    mixed = write_branches(X, np.zeros_like(a["read"]), post, res)
    assert_close("mixed", mixed, expected.astype(np.float32), "f32", M * D + M, matrix * reach[:, :, None])
    head = {"phi": a["head.hc_fn"], "bias": a["head.hc_base"], "alpha": a["head.hc_scale"]}
    assert_close("collapsed", collapse(X, "head", head, EPS), arrays["collapsed"], "f32", M * D + M,
                 weight_scale(logit_scale_of_maps(head, X, EPS).max(axis=-1))[..., None] * reach)


def test_frozen_files_exist():
    assert len(MODELS) == 4
    for path in FOLDER.glob("hf-*.safetensors"):
        assert path.stat().st_size < LARGEST_FILE


@pytest.mark.parametrize("name", MODELS)
def test_frozen_logits_agree(name):
    arrays, metadata = read(name)
    weights = {key.removeprefix("weight."): array.astype(np.float64) for key, array in arrays.items()
               if key.startswith("weight.")}
    check_logits(weights, json.loads(metadata["config"]), arrays["ids"], arrays["logits"])


@pytest.mark.parametrize("name", MODELS)
def test_frozen_file_records_its_origin(name):
    _, metadata = read(name)
    assert metadata["class"] == "transformers 5.23.0 DeepseekV3ForCausalLM"
    assert metadata["script"] == "scripts/freeze_hf.py"


def test_frozen_hyper_connections_agree():
    check_branches(read("hf-v4-branches")[0])


def test_hf_stores_the_matrix_transposed():
    """Without the transposition, the difference is far larger than any rounding error."""
    arrays, _ = read("hf-v4-branches")
    site = {"phi": arrays["site.fn"], "bias": arrays["site.base"], "alpha": arrays["site.scale"]}
    _, _, res = branch_maps(site, arrays["state"], EPS, V4)
    assert np.abs(res.swapaxes(-1, -2) - arrays["comb"]).max() > 0.1
