"""The NumPy definition compared with a plain torch module, written from the paper and the demo's description."""

import numpy as np
import pytest

from engram_ref import Trace, engram
from engram_ref.ops import dequantise
from scripts.builders.small_modules import DEMO, DIALECTS, PAPER, QWEN, TILEKERNELS, random_inputs, random_parameters
from tests.bounds import module_scale
from tests.compare import assert_close

torch = pytest.importorskip("torch", reason="torch is not installed")
functional = torch.nn.functional


class TorchEngram(torch.nn.Module):
    """The module built from torch's norm, convolution and sigmoid, with parameters under our names."""

    def __init__(self, parameters, config):
        super().__init__()
        self.config = config
        self.offsets = torch.tensor(parameters["column_offsets"])
        self.weights = {name: torch.tensor(np.asarray(array, dtype=np.float64))
                        for name, array in parameters.items() if name != "column_offsets"}

    def norm(self, x, name, eps):
        """Torch's norm of each branch, with the gain of that branch: [B, T, M, D]."""
        gains = self.weights[name] + (1.0 if self.config.gain_form == "zero_centred" else 0.0)
        branches = [functional.rms_norm(x[:, :, m], x.shape[-1:], gain, eps) for m, gain in enumerate(gains)]
        return torch.stack(branches, dim=2)

    def gate(self, hidden, key):
        query = self.norm(hidden, "query_gain", self.config.norm_eps)
        s = (query * self.norm(key, "key_gain", self.config.norm_eps)).sum(-1) / hidden.shape[-1] ** 0.5
        if self.config.gate_form == "sigmoid":
            return torch.sigmoid(s)
        rooted = s.abs().clamp_min(1e-6).sqrt()
        signed = rooted * s.sign() if self.config.gate_form == "signed_sqrt" else torch.copysign(rooted, s)
        return torch.sigmoid(signed)

    def convolve(self, gated):
        B, T, M, D = gated.shape
        L, dilation = self.config.conv_kernel, self.config.conv_dilation
        x = self.norm(gated, "conv_gain", self.config.conv_norm_eps).flatten(2)              # [B, T, M*D]
        kernel = self.weights["conv_weight"].reshape(M * D, 1, L)
        y = functional.conv1d(x.transpose(1, 2), kernel, padding=(L - 1) * dilation, dilation=dilation, groups=M * D)
        return functional.silu(y[..., :T].transpose(1, 2).reshape(B, T, M, D)) + gated

    def forward(self, hidden, rows):
        w = self.weights
        memory = functional.embedding(rows + self.offsets, w["table"]).flatten(-2)           # [B, T, C*W]
        key_bias = w.get("key_bias", [None] * self.config.n_branches)
        key = torch.stack([functional.linear(memory, weight, bias)
                           for weight, bias in zip(w["key_weight"], key_bias, strict=True)], dim=2)
        value = functional.linear(memory, w["value_weight"], w.get("value_bias"))
        gated = self.gate(hidden, key)[..., None] * value[:, :, None]
        return self.convolve(gated) if self.config.conv_kernel else gated


def assert_same_output(config, seed, batch, length, magnitude=1.0):
    rng = np.random.default_rng(seed)
    parameters, (hidden, rows) = random_parameters(config, rng), random_inputs(config, rng, batch, length)
    hidden, trace = hidden * magnitude, Trace()
    found = engram(parameters, hidden, rows, config, trace=trace)
    expected = TorchEngram(parameters, config)(torch.tensor(hidden), torch.tensor(rows)).numpy()
    scale = module_scale(trace, parameters, config, hidden)
    assert_close("output", expected, found, "f64", max(config.memory_width, config.hidden_size) + 1, scale)


@pytest.mark.parametrize("shape", [(1, 1), (2, 7), (3, 14)], ids=lambda s: f"B={s[0]},T={s[1]}")
@pytest.mark.parametrize("dialect", DIALECTS)
def test_torch_gives_the_same_output(dialect, shape):
    assert_same_output(DIALECTS[dialect], 1, *shape)


@pytest.mark.parametrize("magnitude", [1e-10, 1e-8, 1e-3], ids=lambda m: f"states of {m}")
@pytest.mark.parametrize("config", [DEMO, PAPER, TILEKERNELS, QWEN], ids=lambda config: config.name)
def test_torch_gives_the_same_output_for_small_states(config, magnitude):
    assert_same_output(config, 2, 1, 4, magnitude)


def test_torch_decodes_the_same_fp8_numbers():
    codes = np.arange(256, dtype=np.uint8)
    expected = torch.tensor(codes).view(torch.float8_e4m3fn).to(torch.float32).numpy()
    found = dequantise(codes, np.full(8, 127, dtype=np.uint8))
    assert_close("codes", expected, found, "exact")


def test_torch_decodes_the_same_scales():
    if not hasattr(torch, "float8_e8m0fnu"):
        pytest.skip("this PyTorch version has no float8_e8m0fnu")
    scales = np.arange(256, dtype=np.uint8)
    expected = torch.tensor(scales).view(torch.float8_e8m0fnu).to(torch.float32).numpy()
    found = dequantise(np.full((256, 32), 0x38, dtype=np.uint8), scales[:, None])[:, 0]
    assert_close("scales", expected, found, "exact")
