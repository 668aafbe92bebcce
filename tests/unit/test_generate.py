"""Generating: greedy decoding, and sampling that depends only on the rng."""

import numpy as np
import pytest

from engram_ref import InputError
from engram_ref.model.generate import generate
from engram_ref.model.transformer import forward
from engram_ref.ops import sample
from scripts.builders.small_models import FULL, MODELS, random_ids, random_model


def step_by_step(parameters, prompt, config, new_tokens, temperature=0.0, rng=None):
    """Generate without a state: compute the whole text again for every token."""
    text = prompt
    for _ in range(new_tokens):
        newest = sample(forward(parameters, text, config)[:, -1], temperature, rng)
        text = np.concatenate([text, newest[:, None]], axis=1)
    return text[:, prompt.shape[1] :]


@pytest.mark.parametrize("length", [1, 5])
@pytest.mark.parametrize("name", MODELS)
def test_greedy_tokens_match_decoding_without_a_state(name, length):
    config = MODELS[name]
    parameters, prompt = random_model(config), random_ids(config, 2, length)
    result = generate(parameters, prompt, config, 9)
    assert result.dtype == np.int64
    assert result.tolist() == step_by_step(parameters, prompt, config, 9).tolist()
    assert result.tolist() == generate(parameters, prompt, config, 9, rng=np.random.default_rng(5)).tolist()


@pytest.mark.parametrize("temperature", [0.7, 2.0])
def test_sampled_tokens_match_decoding_without_a_state(temperature):
    parameters, prompt = random_model(FULL), random_ids(FULL, 3, 4)
    result, again, other = (generate(parameters, prompt, FULL, 8, temperature=temperature,
                                     rng=np.random.default_rng(seed)).tolist() for seed in (1, 1, 2))
    assert result == again != other
    expected = step_by_step(parameters, prompt, FULL, 8, temperature, np.random.default_rng(1))
    assert result == expected.tolist()


def test_prompt_and_output_shapes():
    parameters, prompt = random_model(FULL), random_ids(FULL, 2, 4)
    assert generate(parameters, prompt, FULL, 0).shape == (2, 0)
    assert generate(parameters, prompt[0], FULL, 3).tolist() == generate(parameters, prompt[:1], FULL, 3)[0].tolist()
    assert generate(parameters, prompt[0].tolist(), FULL, 0).shape == (0,)


PROMPT = np.array([[1, 2, 3]])
INVALID = {
    "an empty prompt": ({"prompt": PROMPT[:, :0]}, "prompt"),
    "a prompt without an axis": ({"prompt": np.int64(3)}, "prompt"),
    "a prompt of floats": ({"prompt": PROMPT.astype(float)}, "prompt: expected integers"),
    "an id out of range": ({"prompt": PROMPT + 100}, "ids"),
    "a negative count": ({"new_tokens": -1}, "new_tokens"),
    "a negative temperature": ({"temperature": -1.0}, "temperature"),
    "a temperature of NaN": ({"temperature": float("nan")}, "temperature"),
    "an infinite temperature": ({"temperature": float("inf"), "rng": np.random.default_rng(0)}, "temperature"),
    "no rng": ({"temperature": 1.0}, "temperature: expected 0, or a positive number and an rng"),
}


@pytest.mark.parametrize(("changes", "message"), INVALID.values(), ids=INVALID)
def test_invalid_arguments_raise(changes, message):
    with pytest.raises(InputError, match=message):
        generate(random_model(FULL), config=FULL, **({"prompt": PROMPT, "new_tokens": 2} | changes))


def test_parameters_are_checked():
    parameters = random_model(FULL)
    parameters["norm.weight"] = np.full(9, np.inf)
    with pytest.raises(InputError, match=r"norm\.weight"):
        generate(parameters, PROMPT, FULL, 2)
