"""The Qwen dialect compared with HF transformers' Qwen4Exp classes: constants, rows, and the whole layer."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from engram_ref import Addressing, Trace, engram, preset
from engram_ref.model.engram import start_state
from tests.bounds import module_scale
from tests.compare import assert_close
from tests.parity import hf_qwen

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")        # deprecation warnings of transformers


@pytest.fixture(autouse=True)
def one_thread():
    """Use one thread: HF's small convolutions would spend most of their time waiting for threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


each_size = pytest.mark.parametrize("size", hf_qwen.SIZES)
each_strength = pytest.mark.parametrize("strength", hf_qwen.STRENGTHS)


def test_constants_at_the_published_size():
    """Multipliers, primes, offsets and rows of every table equal HF's, which are built without allocating the table."""
    from transformers.models.qwen4_exp.configuration_qwen4_exp import Qwen4ExpTextConfig
    from transformers.models.qwen4_exp.modeling_qwen4_exp import Qwen4ExpTextNGramEmbedding, _build_layer_multipliers

    config = preset("qwen4exp-ple")
    hf = Qwen4ExpTextConfig(hidden_size=config.hidden_size, ple_layer_ids=[2], eos_token_id=config.eos_id)
    with torch.device("meta"):
        module = Qwen4ExpTextNGramEmbedding(hf, hf.ple_embed_dim, 1)
    addressing = Addressing(config)
    found = _build_layer_multipliers(hf.vocab_size, hf.ngram_size, 0, hf.seed)
    assert_close("multipliers", found.numpy(), addressing.multipliers[2], "exact")
    assert addressing.primes[2].tolist() == module.head_vocab_sizes
    assert addressing.offsets[2].tolist() == module.head_offsets
    assert tuple(module.ngram_embedding.weight.shape) == (addressing.table_rows[2], config.row_width)
    stored = addressing.table_rows[2] * config.bytes_per_row
    assert math.floor(stored / 2**30) == 95, "HF's comment on the size: about 95 GiB"


@pytest.mark.parametrize("index", [0, 1, 2])
def test_constants_of_several_layers(index):
    from transformers.models.qwen4_exp.modeling_qwen4_exp import Qwen4ExpTextNGramEmbedding

    config = replace(hf_qwen.ours("three branches"), layer_ids=(2, 5, 9))
    hf, layer, addressing = hf_qwen.theirs(config), config.layer_ids[index], Addressing(config)
    module = Qwen4ExpTextNGramEmbedding(hf, config.memory_width, layer - 1, hf.ple_layer_ids.index(layer))
    assert_close("multipliers", module.layer_multipliers.numpy(), addressing.multipliers[layer], "exact")
    assert addressing.primes[layer].tolist() == module.head_vocab_sizes
    assert module.ngram_embedding.num_embeddings == addressing.table_rows[layer]


@each_size
@pytest.mark.parametrize("cuts", [(0, 40), (0, 1, 2, 3, 11, 12, 40)], ids=["whole", "chunks"])
def test_rows_are_equal(size, cuts):
    """Each row of HF's embedding contains its own index, so the embedding returns the indices that it reads."""
    config, hf, layer = hf_qwen.build(size, "plain")
    ids, _ = hf_qwen.random_inputs(config, cuts[-1], "plain")
    addressing, cache, history = Addressing(config), cache_of(hf), None
    with torch.no_grad():
        table = layer.ple_embedding.ngram_embedding.weight
        table.copy_(torch.arange(len(table))[:, None].expand_as(table))
        for start, stop in pairwise(cuts):
            chunk = ids[:, start:stop]
            found = layer.ple_embedding(torch.tensor(chunk), cache).numpy()[..., :: config.row_width]
            rows = addressing.rows(chunk, 2, history, flat=True)
            assert_close(f"rows {start}:{stop}", found.astype(np.int64), rows, "exact")
            history = addressing.advance(history, chunk)


def cache_of(hf):
    """HF's cache: window ids and convolution inputs of each layer."""
    from transformers import DynamicCache

    return DynamicCache(config=hf)


def norm_roundings(D):
    """Number of float32 roundings in one of HF's norms, for float64 input and gains that are exact in float32.

    These are the cast of x, half of those of the mean square (the root halves the error), the root and its reciprocal,
    the product, 1 + gain, and the product with it. The mean square has the cast twice, a square, D - 1 additions, the
    division and the addition of eps.
    """
    return 1 + (2 + 1 + (D - 1) + 2) / 2 + 2 + 1 + 1 + 1


def assert_layer(config, hf, layer, ids, hidden, cuts, tolerance):
    """HF's layer and ours agree chunk by chunk, each with its own state."""
    addressing = Addressing(config)
    parameters = hf_qwen.parameters_of(layer, config, addressing.offsets[2])
    chunks, history = list(pairwise(cuts)), None
    cache, state = cache_of(hf) if len(chunks) > 1 else None, start_state(config, len(ids))
    scale = whole_scale(parameters, hidden, addressing.rows(ids, 2), config)
    for start, stop in chunks:
        here = slice(start, stop)
        expected = hf_qwen.run(layer, hidden[:, here], ids[:, here], cache)
        rows = addressing.rows(ids[:, here], 2, history)
        history = addressing.advance(history, ids[:, here])
        found = engram(parameters, hidden[:, here], rows, config, state=state)
        assert_close(f"Y {start}:{stop}", expected, found, *tolerance, scale[:, here])


def whole_scale(parameters, hidden, rows, config, dead=None):
    """The effect of one rounding of every stage on the output: [B, T, M, D]."""
    trace = Trace()
    engram(parameters, hidden, rows, config, dead=dead, trace=trace)
    return module_scale(trace, parameters, config, hidden)


CUTS = {"one token": (0, 1), "short": (0, 5), "whole": (0, 40), "chunks": (0, 1, 2, 3, 11, 12, 13, 40),
        "prefill and steps": (0, 31, *range(32, 41))}


@each_size
@each_strength
@pytest.mark.parametrize("cuts", CUTS.values(), ids=CUTS)
def test_the_layer_agrees(size, strength, cuts):
    """HF computes the three norms in float32; everything else is in float64."""
    config, hf, layer = hf_qwen.build(size, strength)
    ids, hidden = hf_qwen.random_inputs(config, cuts[-1], strength)
    assert_layer(config, hf, layer, ids, hidden, cuts, ("internals", norm_roundings(config.hidden_size)))


@each_size
@each_strength
@pytest.mark.parametrize("cuts", CUTS.values(), ids=CUTS)
def test_the_layer_agrees_in_float64(monkeypatch, size, strength, cuts):
    """If the casts in HF's norms are replaced by casts to float64, only float64 roundings remain."""
    config, hf, layer = hf_qwen.build(size, strength)
    ids, hidden = hf_qwen.random_inputs(config, cuts[-1], strength)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    terms = max(config.memory_width, config.hidden_size) + 1
    assert_layer(config, hf, layer, ids, hidden, cuts, ("f64", terms))


def test_padding_in_the_whole_model():
    """Prefill left-padded rows, then decode single tokens: masked positions read EOS rows and have gate 0."""
    # HF's model, whose per-layer embedding records its inputs and outputs.
    config = hf_qwen.ours("three branches")
    model, calls = hf_qwen.build_model(config).double(), []
    layer = hf_qwen.randomise(model.layers[1].ple, np.random.default_rng(0), 1.0)
    layer.register_forward_hook(lambda module, inputs, output: calls.append((inputs[0].numpy(), output.numpy())))
    ids, _ = hf_qwen.random_inputs(config, 16, "plain", batch=3)
    mask = np.arange(16) >= np.array([[0], [4], [11]])                       # [B, T], true at positions with text
    with torch.no_grad():
        cache = model(torch.tensor(ids[:, :12]), torch.tensor(mask[:, :12]).long(), use_cache=True).past_key_values
        for t in range(12, 16):
            model(torch.tensor(ids[:, t : t + 1]), torch.tensor(mask[:, : t + 1]).long(), past_key_values=cache)
    hidden, expected = (np.concatenate(part, axis=1).reshape(3, 16, config.n_branches, -1)
                        for part in zip(*calls, strict=True))
    # Our module on the recorded inputs.
    addressing = Addressing(config)
    parameters = hf_qwen.parameters_of(layer, config, addressing.offsets[2])
    rows = addressing.rows(np.where(mask, ids, hf_qwen.EOS), 2)
    found = engram(parameters, hidden, rows, config, dead=~mask)
    assert (expected[~mask] == 0).all()
    assert_close("Y", expected, found, "internals", norm_roundings(config.hidden_size),
                 whole_scale(parameters, hidden, rows, config, ~mask))
    assert np.abs(engram(parameters, hidden, rows, config)[~mask]).min() > 0, "the mask has no effect"


@pytest.mark.parametrize("layer_ids", [(9, 5), (5, 9, 2)], ids=str)
def test_layers_are_numbered_in_ascending_order(layer_ids):
    """HF sorts its list of layers before it numbers the modules, so the order of the list does not matter."""
    from transformers.models.qwen4_exp.modeling_qwen4_exp import Qwen4ExpTextNGramEmbedding

    config = replace(hf_qwen.ours("three branches"), layer_ids=layer_ids)
    hf, addressing = hf_qwen.theirs(config), Addressing(config)
    for layer in layer_ids:
        module = Qwen4ExpTextNGramEmbedding(hf, config.memory_width, layer - 1, hf.ple_layer_ids.index(layer))
        assert_close("multipliers", module.layer_multipliers.numpy(), addressing.multipliers[layer], "exact")
        assert addressing.primes[layer].tolist() == module.head_vocab_sizes
