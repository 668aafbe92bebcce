"""Write the outputs of HF transformers' DeepSeek classes for tiny random models: tests/golden/hf-*.safetensors.

    pip install torch==2.13.0 transformers==5.23.0
    python scripts/freeze_hf.py

Each file has the weights (float32), the input and the output of one model; its metadata has the configuration and the
versions. tests/golden/test_hf_frozen.py checks the files without torch, and tests/parity/test_hf.py rebuilds and
compares the same models. The script rejects a model in which a float32 rounding could change the choice of experts.
"""

import json
import sys
from pathlib import Path

import hf_models
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from engram_ref import ops  # noqa: E402
from engram_ref.files import write_whole  # noqa: E402
from engram_ref.model.hf import from_hf_deepseek_v3  # noqa: E402
from engram_ref.model.transformer import forward  # noqa: E402

GOLDEN = ROOT / "tests" / "golden"
FIELDS = (*hf_models.BASE, "rms_norm_eps", "rope_parameters", "hidden_act", "attention_bias", "tie_word_embeddings",
          "model_type")
NEAREST_CHOICE = 2.0**-16
"""Smallest allowed distance between the scores of chosen and other experts: 256 float32 roundings."""


def write(name, arrays, **metadata):
    """Write one file, completely or not at all."""
    import torch
    import transformers
    from safetensors.numpy import save

    versions = {"script": "scripts/freeze_hf.py", "torch": torch.__version__,
                "class": f"transformers {transformers.__version__} {metadata.pop('class_name')}"}
    data = save({key: np.ascontiguousarray(array) for key, array in arrays.items()}, metadata | versions)
    write_whole(GOLDEN / f"hf-{name}.safetensors", data)
    print(f"hf-{name}.safetensors  {len(data):,} bytes")


def narrowest_choice(state_dict, hf_config, ids):
    """Return the smallest distance between biased scores of chosen and other experts, over all tokens and layers."""
    config, parameters = from_hf_deepseek_v3(state_dict, hf_config)
    gaps, select = [], ops.experts.select_experts

    def watched(scores, bias, experts):
        chosen = select(scores, bias, experts)
        biased = scores + bias
        inside = np.take_along_axis(biased, chosen, axis=-1)
        np.put_along_axis(biased, chosen, np.inf, axis=-1)
        gaps.append(np.abs(biased[:, :, None] - inside[:, None]).min())
        return chosen

    ops.experts.select_experts = watched
    try:
        forward(parameters, ids, config)
    finally:
        ops.experts.select_experts = select
    return min(gaps)


def freeze_model(name, weights):
    """Write one DeepSeek-V3 model."""
    model, hf_config = hf_models.build(name, weights)
    ids, state_dict = hf_models.random_ids(name), hf_models.arrays(model)
    gap = narrowest_choice(state_dict, hf_config, ids)
    if gap < NEAREST_CHOICE:
        raise SystemExit(f"{name}, {weights}: the scores of two experts differ by only {gap:.1e}; use a different seed")
    stored = {f"weight.{key}": array.astype(np.float32) for key, array in state_dict.items()}
    fields = {key: hf_config[key] for key in FIELDS if key in hf_config}
    write(f"v3-{name}-{weights}", stored | {"ids": ids, "logits": hf_models.logits(model, ids)},
          class_name="DeepseekV3ForCausalLM", config=json.dumps(fields))


def main():
    """Write all models, and one hyper-connection with its collapse."""
    for name, weights in hf_models.FROZEN:
        freeze_model(name, weights)
    write("v4-branches", hf_models.branch_arrays(), config=json.dumps(hf_models.V4),
          class_name="DeepseekV4HyperConnection, DeepseekV4HyperHead")


if __name__ == "__main__":
    main()
