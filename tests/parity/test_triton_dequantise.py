"""The kernel that gathers and decodes FP8 rows equals the definition exactly."""

import importlib

import numpy as np
import pytest

from engram_ref.errors import InputError
from engram_ref.ops import concatenate, decode, dequantise, gather, round_bf16
from tests.compare import assert_close

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("triton", reason="triton is not installed")
kernel = importlib.import_module("engram_ref.backends.torch.kernels.dequantise")

pytestmark = pytest.mark.usefixtures("kernels_run")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPES = ((0, 3, 2, 32), (3, 0, 2, 32), (1, 1, 1, 32), (1, 2, 3, 96), (3, 5, 4, 64), (2, 33, 6, 256))
ROUNDINGS = pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])


def run(rows, offsets, codes, scales, bf16=False):
    """Run the kernel on NumPy arrays."""
    tensors = (torch.tensor(a, device=DEVICE) for a in (rows, offsets, codes, scales))
    return kernel.gather_dequantise(*tensors, bf16).cpu().numpy()


def defined(rows, offsets, codes, scales, bf16=False):
    """The memory computed by the definition."""
    memory = concatenate(decode((gather(codes, rows, offsets), gather(scales, rows, offsets)), "fp8_e8m0", np.float32))
    return round_bf16(memory) if bf16 else memory


@ROUNDINGS
def test_every_pair_of_code_and_scale(bf16):
    """Row b of the table has every code with scale byte b."""
    codes = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    scales = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 8, axis=1)
    found = run(np.arange(256).reshape(1, 256, 1), np.array([0]), codes, scales, bf16)[0]
    expected = dequantise(codes, scales)
    assert_close("values", round_bf16(expected) if bf16 else expected, found, "exact")


@ROUNDINGS
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "B={},T={},C={},W={}".format(*s))
def test_memory_of_random_tables(shape, bf16):
    """Columns have different sizes; the rows include the first and last of each column."""
    (B, T, C, W), rng = shape, np.random.default_rng(1)
    sizes = 3 + 2 * np.arange(C)
    offsets = np.cumsum(sizes) - sizes
    codes = rng.integers(0, 256, (sizes.sum(), W), dtype=np.uint8)
    scales = rng.integers(0, 256, (sizes.sum(), W // 32), dtype=np.uint8)
    rows = rng.integers(0, sizes, (B, T, C))
    rows[:, :1], rows[:, 1:2] = 0, sizes - 1
    arguments = (rows, offsets, codes, scales, bf16)
    assert_close("memory", defined(*arguments), run(*arguments), "exact")


@pytest.mark.skipif(DEVICE == "cuda", reason="the kernels are compiled, not interpreted")
def test_rounding_keeps_every_nan():
    """The NaN of a GPU is 0x7FFFFFFF, which would round to -0.0 without a special case."""
    interpreter = importlib.import_module("triton.runtime.interpreter")
    tl = interpreter.tl
    x = np.uint32([0x7FFFFFFF, 0xFFFFFFFF, 0x7FC00000, 0x7F800001, 0x3F808000, 0x3F818000, 0x7F800000,
                   0xFF800000]).view(np.float32)
    handle = interpreter.TensorHandle(x, tl.float32)
    found = kernel.round_bf16(tl.tensor(handle, tl.block_type(tl.float32, list(x.shape)))).handle.data
    assert np.isnan(found[:4]).all()
    assert_close("numbers", np.float32([1.0, 1.015625, np.inf, -np.inf]), found[4:], "exact")


def test_every_channel_has_the_scale_of_its_block():
    codes = np.full((1, 128), 0x38, dtype=np.uint8)
    found = run(np.zeros((1, 1, 1), dtype=np.int64), np.array([0]), codes, np.uint8([[127, 128, 126, 130]]))
    assert_close("memory", np.repeat(np.float32([1, 2, 0.5, 8]), 32)[None, None], found, "exact")


def test_rows_beyond_2_gib():
    """The table is the upper half of a larger buffer, so a wrapped offset would read valid but wrong bytes."""
    half, W = 2**31, 256
    size = 2 * half + 64 * W
    buffer = torch.UntypedStorage(size, device=DEVICE)           # untouched pages take no memory
    codes = torch.empty(0, dtype=torch.uint8, device=DEVICE).set_(buffer, half, (half // W + 64, W), (W, 1))
    scales = torch.full((len(codes), W // 32), 127, dtype=torch.uint8, device=DEVICE)
    last = len(codes) - 1
    chosen = [0, half // W - 1, half // W, half // W + 1, last]
    numbers = np.random.default_rng(2).integers(0, 256, (len(chosen), W), dtype=np.uint8)
    codes[chosen] = torch.tensor(numbers, device=DEVICE)
    scales[chosen] += torch.arange(len(chosen), dtype=torch.uint8, device=DEVICE)[:, None]
    rows = torch.tensor(chosen, device=DEVICE).reshape(1, -1, 1)
    found = kernel.gather_dequantise(rows, torch.zeros(1, dtype=torch.int64, device=DEVICE), codes, scales)
    expected = dequantise(numbers, np.repeat(127 + np.arange(len(chosen), dtype=np.uint8)[:, None], W // 32, axis=1))
    assert_close("memory", expected[None], found.cpu().numpy(), "exact")


@pytest.mark.parametrize("row", [-1, 4, 2**40, -(2**40)])
def test_a_row_outside_the_table_reads_as_nan(row):
    codes, scales = np.full((4, 32), 0x38, dtype=np.uint8), np.full((4, 1), 127, dtype=np.uint8)
    found = run(np.array([[[3], [row], [0]]]), np.array([0]), codes, scales)[0]
    assert np.isnan(found[1]).all()
    assert_close("the others", np.ones((2, 32), dtype=np.float32), found[[0, 2]], "exact")


def arguments():
    return {"rows": torch.zeros(1, 2, 3, dtype=torch.int64), "offsets": torch.zeros(3, dtype=torch.int64),
            "codes": torch.zeros(4, 64, dtype=torch.uint8), "scales": torch.zeros(4, 2, dtype=torch.uint8)}


BAD = {
    "rows of int32": ("rows", lambda a: a.int()),
    "rows without a batch": ("rows", lambda a: a[0]),
    "rows with gaps": ("rows", lambda a: torch.zeros(1, 3, 2, dtype=torch.int64).mT),
    "offsets of more columns": ("offsets", lambda a: torch.zeros(4, dtype=torch.int64)),
    "codes as a float dtype": ("codes", lambda a: a.view(torch.float8_e4m3fn)),
    "codes on another device": ("codes", lambda a: a.to("meta")),
    "a width of 48": ("codes", lambda a: a[:, :48].contiguous()),
    "a scale per 16": ("scales", lambda a: torch.zeros(4, 4, dtype=torch.uint8)),
    "scales of fewer rows": ("scales", lambda a: a[:3]),
}


@pytest.mark.parametrize("case", BAD)
def test_invalid_arguments_raise(case):
    name, change = BAD[case]
    changed = arguments() | {name: change(arguments()[name])}
    with pytest.raises(InputError, match=name):
        kernel.gather_dequantise(*changed.values())


@pytest.mark.parametrize("shape", [(0, 2, 3), (1, 0, 3), (1, 2, 0)], ids=str)
def test_no_kernel_is_launched_without_rows(shape, monkeypatch):
    monkeypatch.setattr(kernel, "dequantise_kernel", None)
    empty = arguments() | {"rows": torch.zeros(shape, dtype=torch.int64),
                           "offsets": torch.zeros(shape[2], dtype=torch.int64)}
    assert kernel.gather_dequantise(*empty.values()).shape == (*shape[:2], shape[2] * 64)
