"""HF transformers' DeepSeek classes, tiny and random, against the NumPy definition."""

import numpy as np
import pytest

from engram_ref import Trace
from engram_ref.model.hf import from_hf_deepseek_v3
from engram_ref.model.state import DecodeState
from engram_ref.model.transformer import forward
from tests.bounds_backbone import float32_roundings, logit_scale
from tests.compare import assert_close
from tests.golden.test_hf_frozen import check_branches, check_logits
from tests.parity import hf_models

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")        # other people's deprecations are not ours


@pytest.mark.parametrize("weights", ["wide", "default"])
@pytest.mark.parametrize("name", hf_models.CASES)
def test_logits_agree(name, weights):
    model, hf_config = hf_models.build(name, weights)
    ids = hf_models.random_ids(name)
    check_logits(hf_models.arrays(model), hf_config, ids, hf_models.logits(model, ids))


@pytest.mark.parametrize("name", ["plain", "q-lora-groups-yarn"])
def test_decoding_with_their_cache_agrees_with_ours(name):
    """A prefill of 20 tokens, then one at a time, each side with its own cache."""
    model, hf_config = hf_models.build(name)
    config, parameters = from_hf_deepseek_v3(hf_models.arrays(model), hf_config)
    ids, state, trace = hf_models.random_ids(name), DecodeState.start(2), Trace()
    forward(parameters, ids, config, trace=trace)
    found = [forward(parameters, ids[:, :20], config, state=state)]
    found += [forward(parameters, ids[:, t : t + 1], config, state=state, absorbed=True)
              for t in range(20, ids.shape[1])]
    assert_close("logits", hf_models.decoded(model, ids, 20), np.concatenate(found, axis=1), "internals",
                 float32_roundings(config, ids.shape[1]), logit_scale(trace["final_norm"], parameters["head.weight"]))


def test_every_case_is_another_model():
    """A case whose option did nothing would test nothing."""
    plain = hf_models.build("plain")[1]
    configs = {name: hf_models.build(name)[1] for name in hf_models.CASES}
    assert configs["q-lora"]["q_lora_rank"] == 14
    assert configs["groups"]["n_group"] == 4
    assert configs["yarn"]["rope_parameters"]["rope_type"] == "yarn"
    assert configs["halves"]["rope_interleave"] is False
    assert plain["rope_parameters"]["rope_type"] == "default"
    biases = hf_models.arrays(hf_models.build("groups")[0])["model.layers.1.mlp.gate.e_score_correction_bias"]
    assert biases.max() < 0


@pytest.mark.parametrize("spread", [0.3, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_hyper_connections_agree(seed, spread):
    check_branches(hf_models.branch_arrays(seed, spread))
