"""The row kernel equals the definition exactly."""

import importlib
from itertools import product

import numpy as np
import pytest

from engram_ref.addressing import addressing_of
from engram_ref.errors import InputError
from engram_ref.ops import DEAD, address
from engram_ref.presets import preset, presets
from tests.compare import assert_close

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("triton", reason="triton is not installed")
kernel = importlib.import_module("engram_ref.backends.torch.kernels.rows")

pytestmark = pytest.mark.usefixtures("kernels_run")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPES = tuple(product((0, 1, 3), (0, 1, 2, 5, 33)))
NAMES = ("ids", "history", "multipliers", "primes", "offsets")


def run(ids, history, multipliers, primes, offsets, pad_id, eos_id=None):
    """Run the kernel on NumPy arrays."""
    tensors = (None if a is None else torch.tensor(a, device=DEVICE)
               for a in (ids, history, multipliers, primes, offsets))
    return kernel.rows(*tensors, pad_id, eos_id).cpu().numpy()


def stream(rng, shape, N, size, eos_id):
    """Canonical ids and a history: one in five is DEAD and, if there is an EOS id, one in five is EOS."""
    special = rng.choice([DEAD, DEAD if eos_id is None else eos_id], (shape[0], N - 1 + shape[1]))
    ids = rng.integers(0, size, special.shape)
    ids = np.where(rng.random(ids.shape) < (0.2 if eos_id is None else 0.4), special, ids)
    return ids[:, N - 1 :], ids[:, : N - 1]


def assert_rows(*arguments):
    assert_close("rows", address(*arguments), run(*arguments), "exact")


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"B={s[0]},T={s[1]}")
@pytest.mark.parametrize("name", presets())
def test_rows_of_every_preset(name, shape):
    addressing, rng = addressing_of(preset(name)), np.random.default_rng(1)
    for layer in addressing.config.layer_ids:
        multipliers, primes, offsets = (c[layer] for c in (addressing.multipliers, addressing.primes,
                                                           addressing.offsets))
        ids, history = stream(rng, shape, len(multipliers), addressing.config.canonical_size, addressing.eos_id)
        assert_rows(ids, history, multipliers, primes, offsets, addressing.pad_id, addressing.eos_id)
        assert_rows(ids, history, multipliers, primes, None, addressing.pad_id, addressing.eos_id)


def test_rows_of_more_tokens_than_one_program_handles():
    rng, addressing = np.random.default_rng(2), addressing_of(preset("deepseek-v4.1-flash"))
    for T in (kernel.BLOCK - 1, kernel.BLOCK, kernel.BLOCK + 1, 2 * kernel.BLOCK + 3):
        ids, history = stream(rng, (2, T), 4, addressing.config.canonical_size, None)
        assert_rows(ids, history, *(c[14] for c in (addressing.multipliers, addressing.primes, addressing.offsets)), 2)


def test_products_wrap_and_rows_of_negative_mixes_are_not_negative():
    """With injected multipliers of both signs, half the mixes are negative, for which `%` would truncate."""
    rng = np.random.default_rng(3)
    primes = np.array([11, 13, 2**31 - 1, 10_007, 3, 2])
    multipliers = rng.integers(-(2**63), 2**63 - 1, 4)
    multipliers[0] |= 1
    ids, history = stream(rng, (3, 33), 4, 99_092, None)
    found = run(ids, history, multipliers, primes, None, 2)
    assert_close("rows", address(ids, history, multipliers, primes, None, 2), found, "exact")
    assert ((found >= 0) & (found < primes)).all()
    assert (ids * multipliers[0] < 0).any()


def edges(primes):
    """Numbers at and near multiples of every prime and at both ends of int64, without DEAD."""
    near = [k * p + d for p in primes.tolist() for k in (0, 1, -1, 2**62 // p, 2**63 // p, -(2**63) // p)
            for d in (-2, -1, 0, 1, 2)]
    ends = [2**63 - 1, 2**63 - 2, -(2**63), -(2**63) + 1, 2**53 + 1, 2**32, -(2**32) - 1]
    return np.array([x for x in near + ends if -(2**63) <= x < 2**63 and x != DEAD])


@pytest.mark.parametrize("name", presets())
def test_the_remainder_is_exact_near_every_multiple(name):
    """With multipliers 1 and 0, the mix is the id itself; Python's integers give the expected rows."""
    addressing = addressing_of(preset(name))
    for layer in addressing.config.layer_ids:
        primes = addressing.primes[layer]
        ids = edges(primes)
        found = run(ids[None], np.array([[0]]), np.array([1, 0]), primes, None, 0)[0]
        expected = np.array([[x % p for p in primes.tolist()] for x in ids.tolist()])
        assert_close("remainder", expected, found, "exact")


def test_the_remainder_is_exact_for_primes_of_any_size():
    primes = np.array([2, 3, 65_537, 2**31 - 1, 2**32 + 15, 2**61 - 1, 2**62 - 57, 2**63 - 25])
    ids = np.concatenate([edges(primes), np.random.default_rng(4).integers(-(2**63), -1, 300)])
    found = run(ids[None], np.array([[0]]), np.array([1, 0]), primes, None, 0)[0]
    expected = np.array([[x % p for p in primes.tolist()] for x in ids.tolist()])
    assert_close("remainder", expected, found, "exact")


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("mark", ["dead", "end of document"])
def test_a_barrier_hides_all_earlier_tokens(mark, place):
    """Put one mark at each index of the history or the text, and compare every position."""
    ids = np.array([[5, 6, 7, 8, 9, 10]])
    history = np.array([[3, 4, 5]])
    text = np.concatenate([history, ids], axis=1)
    text[0, 2 + place] = DEAD if mark == "dead" else 77
    primes = np.arange(101, 107)
    assert_rows(text[:, 3:].copy(), text[:, :3].copy(), np.array([7, 9, 11, 13]), primes, None, 2, 77)


def arguments():
    return {"ids": torch.zeros(2, 3, dtype=torch.int64), "history": torch.zeros(2, 1, dtype=torch.int64),
            "multipliers": torch.ones(2, dtype=torch.int64), "primes": torch.full((4,), 7),
            "offsets": torch.zeros(4, dtype=torch.int64)}


BAD = {
    "ids of int32": ("ids", lambda a: a.int()),
    "ids without a batch": ("ids", lambda a: a[0]),
    "ids with gaps": ("ids", lambda a: torch.zeros(3, 2, dtype=torch.int64).T),
    "a longer history": ("history", lambda a: torch.zeros(2, 2, dtype=torch.int64)),
    "a history of a smaller batch": ("history", lambda a: a[:1]),
    "a history on another device": ("history", lambda a: a.to("meta")),
    "multipliers as floats": ("multipliers", lambda a: a.double()),
    "offsets of fewer columns": ("offsets", lambda a: a[:3]),
}


@pytest.mark.parametrize("case", BAD)
def test_invalid_arguments_raise(case):
    name, change = BAD[case]
    changed = arguments() | {name: change(arguments()[name])}
    with pytest.raises(InputError, match=name):
        kernel.rows(*changed.values(), 2)


@pytest.mark.parametrize(("count", "orders"), [(0, 1), (3, 2), (4, 0)])
def test_different_numbers_of_primes_per_order_raise(count, orders):
    changed = arguments() | {"multipliers": torch.ones(orders + 1, dtype=torch.int64),
                             "history": torch.zeros(2, orders, dtype=torch.int64), "primes": torch.full((count,), 7)}
    with pytest.raises(InputError, match="primes"):
        kernel.rows(*changed.values(), 2)


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0)], ids=str)
def test_no_kernel_is_launched_without_tokens(shape, monkeypatch):
    monkeypatch.setattr(kernel, "rows_kernel", None)
    empty = arguments() | {"ids": torch.zeros(shape, dtype=torch.int64),
                           "history": torch.zeros(shape[0], 1, dtype=torch.int64)}
    assert kernel.rows(*empty.values(), 2).shape == (*shape, 4)
