"""Write what HF transformers' DeepSeek classes answer to tiny random models: tests/golden/hf-*.safetensors.

    pip install torch==2.13.0 transformers==5.23.0
    python scripts/freeze_hf.py

Each file holds the weights (float32 numbers), the input and the output of one model, and in its metadata the
configuration and the versions. tests/golden/test_hf_frozen.py checks them without torch; the same models are
built and compared afresh by tests/parity/test_hf.py. A frozen expert must not hang by a thread: the script
refuses a model whose choices of experts a float32 rounding could turn.
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
"""How far apart the last expert chosen and the first one left out must score: 256 roundings of float32."""


def write(name, arrays, **metadata):
    """One file, whole or not at all."""
    import torch
    import transformers
    from safetensors.numpy import save

    versions = {"script": "scripts/freeze_hf.py", "torch": torch.__version__,
                "class": f"transformers {transformers.__version__} {metadata.pop('class_name')}"}
    data = save({key: np.ascontiguousarray(array) for key, array in arrays.items()}, metadata | versions)
    write_whole(GOLDEN / f"hf-{name}.safetensors", data)
    print(f"hf-{name}.safetensors  {len(data):,} bytes")


def narrowest_choice(state_dict, hf_config, ids):
    """The smallest distance, over tokens and layers, between a biased score that was chosen and one that was not."""
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
    """One DeepSeek-V3."""
    model, hf_config = hf_models.build(name, weights)
    ids, state_dict = hf_models.random_ids(name), hf_models.arrays(model)
    gap = narrowest_choice(state_dict, hf_config, ids)
    if gap < NEAREST_CHOICE:
        raise SystemExit(f"{name}, {weights}: two experts score within {gap:.1e} of each other; take another seed")
    stored = {f"weight.{key}": array.astype(np.float32) for key, array in state_dict.items()}
    fields = {key: hf_config[key] for key in FIELDS if key in hf_config}
    write(f"v3-{name}-{weights}", stored | {"ids": ids, "logits": hf_models.logits(model, ids)},
          class_name="DeepseekV3ForCausalLM", config=json.dumps(fields))


def main():
    """Every frozen model, and one hyper-connection with its collapse."""
    for name, weights in hf_models.FROZEN:
        freeze_model(name, weights)
    write("v4-branches", hf_models.branch_arrays(), config=json.dumps(hf_models.V4),
          class_name="DeepseekV4HyperConnection, DeepseekV4HyperHead")


if __name__ == "__main__":
    main()
