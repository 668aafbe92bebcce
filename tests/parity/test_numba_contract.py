"""The Numba backend's threads, out= arguments, shape checks, and the error if Numba is missing."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import engram_ref
from engram_ref import InputError, ops
from engram_ref.model_config import ExpertsConfig
from tests.compare import assert_close

pytest.importorskip("numba", reason="numba is not installed")
from numba import config

from engram_ref.backends import numba as fast
from engram_ref.backends.numba import _buffers, _threads
from engram_ref.model.declarations import expert_shapes
from scripts.builders.small_modules import DEMO, V41, random_inputs, random_parameters

T = 40 if config.DISABLE_JIT else 1500
EXPERTS = ExpertsConfig(5, 2, 1, 3)


def kernel_calls(rng):
    """{name: call without arguments} of every function with a kernel, on enough tokens for several threads."""
    p, (hidden, rows) = random_parameters(DEMO, rng, dtype=np.float32), random_inputs(DEMO, rng, 1, T, np.float32)
    p8 = random_parameters(V41, rng)
    for name in ("table_codes", "table_scales"):
        p8[name] = rng.integers(0, 256, p8[name].shape, dtype=np.uint8)
    rows8 = rng.integers(0, 23, (1, T, V41.columns))
    memory = fast.gather_decode(p, rows, DEMO, np.float32)
    taps = rng.standard_normal((1, DEMO.conv_span, *hidden.shape[2:])).astype(np.float32)
    key = rng.standard_normal(hidden.shape).astype(np.float32)
    experts = {n: rng.standard_normal(shape).astype(np.float32) for n, shape in expert_shapes(EXPERTS, 9).items()}
    ids, history, x = rng.integers(0, 50, (1, T)), np.full((1, 2), -1), hidden[..., 0, :9]
    step = latent_step(rng, T)
    constants = rng.integers(1, 2**40, 3), np.array([23, 29, 31, 37])
    eight = constants[0], np.array([4099 + 2 * i for i in range(16)])
    return {
        "address": lambda: fast.address(ids, history, *constants, None, 7),
        "address, eight heads": lambda: fast.address(ids, history, *eight, None, 7),
        "table_rows": lambda: fast.table_rows(ops.mix(ops.windows(ids, history, 7), constants[0]), constants[1]),
        "gather": lambda: fast.gather(p["table"], rows, p["column_offsets"]),
        "gather_decode of FP8": lambda: fast.gather_decode(p8, rows8, V41, np.float32),
        "rms_norm": lambda: fast.rms_norm(hidden, p["query_gain"], 1e-6),
        "factored_score": lambda: fast.factored_score(hidden, key, p["query_gain"], p["key_gain"], 1e-6),
        "silu": lambda: fast.silu(hidden),
        "conv_silu": lambda: fast.conv_silu(hidden, p["conv_weight"], 3, taps),
        "project_and_gate": lambda: fast.project_and_gate(p, memory, hidden, None, DEMO),
        "gated_update": lambda: fast.gated_update(p, memory, hidden, taps, None, DEMO, 9)[0],
        "moe": lambda: fast.moe(experts, x, EXPERTS),
        "attend_absorbed": lambda: fast.attend_absorbed(*step, 0.3),
        "cross_entropy": lambda: fast.cross_entropy(hidden[0, :, 0], np.zeros(T, np.int64)),
    }


def latent_step(rng, cached, r=32):
    """Arguments of attend_absorbed for one token and three heads."""
    shapes = (1, 1, 3, 4), (1, 1, 3, 2), (1, cached, r), (1, cached, 2), (3, 4, r), (3, 2, r)
    return [*(rng.standard_normal(shape) for shape in shapes), np.ones((1, 1, cached), bool)]


CALLS = tuple(kernel_calls(np.random.default_rng(0)))


@pytest.mark.parametrize("name", CALLS)
def test_results_do_not_depend_on_the_thread_count(name, rng, monkeypatch):
    monkeypatch.setattr(_threads, "MIN_PARALLEL_BYTES", 0)
    call, results = kernel_calls(rng)[name], []
    for count in (1, 2, 3, 7):
        with fast.threads(count):
            results.append(call())
    assert all(result.tobytes() == results[0].tobytes() for result in results)


def test_the_thread_count_is_set_and_restored():
    before = fast.thread_count()
    with fast.threads(3):
        assert fast.thread_count() == 3
        with fast.threads(1):
            assert fast.thread_count() == 1
        assert fast.thread_count() == 3
    assert fast.thread_count() == before >= 1


@pytest.mark.parametrize("count", [0, -1, 1.5, "2", None, True])
def test_an_invalid_thread_count_raises(count):
    with pytest.raises(InputError, match="threads: expected an integer of at least 1"), fast.threads(count):
        pass


def test_concurrent_callers_do_not_interfere(rng, monkeypatch):
    monkeypatch.setattr(_threads, "MIN_PARALLEL_BYTES", 0)
    call = kernel_calls(rng)["address"]
    expected, results = call(), [None] * 8

    def work(i):
        with fast.threads(1 + i % 3):
            results[i] = call()

    workers = [threading.Thread(target=work, args=(i,)) for i in range(len(results))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(np.array_equal(expected, result) for result in results)


def test_an_error_in_a_worker_reaches_the_caller():
    def kernel(start, stop):
        if start:
            raise InputError("kernel", "no error", "one")

    with fast.threads(2), pytest.raises(InputError, match="found one"):
        _threads.over_tokens(kernel, 100, 2**30)


def test_no_thread_writes_after_an_error_in_the_caller():
    both, caller, finished = threading.Barrier(2, timeout=60), threading.get_ident(), []

    def kernel(start, stop):
        if len(finished) == 0:
            both.wait()
        if threading.get_ident() == caller:
            raise InputError("kernel", "no error", "one")
        time.sleep(0.3)
        finished.append(start)

    with fast.threads(2), pytest.raises(InputError, match="found one"):
        _threads.over_tokens(kernel, 100, 2**30)
    assert len(finished) == 1
    assert _threads._pool(2).submit(len, finished).result() == 1


@pytest.mark.parametrize("fails", ["the caller", "a worker"])
def test_no_thread_waits_for_a_piece_that_failed(fails):
    both, caller, arrived, deadline = threading.Barrier(2, timeout=60), threading.get_ident(), set(), []

    def work():
        thread = threading.get_ident()
        if thread not in arrived:
            arrived.add(thread)
            both.wait()
            deadline.append(time.monotonic() + 5)
        if (thread == caller) == (fails == "the caller"):
            raise InputError("kernel", "no error", "one")
        return time.monotonic() > deadline[0]

    with fast.threads(2), pytest.raises(InputError, match="found one"):
        _threads.in_parallel(work, 2**30)
    assert _threads._pool(2).submit(time.monotonic).result() < deadline[0]


FORK = """
import os, threading
from engram_ref.backends.numba import _threads, threads
with threads(2):
    _threads.over_tokens(lambda start, stop: None, 2, 2**30)
    both, child = threading.Barrier(2, timeout=20), os.fork()
    if child == 0:
        _threads.over_tokens(lambda start, stop: both.wait(), 2, 2**30)
        os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
"""In a forked process, compute two pieces that wait for each other."""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_starts_its_own_threads():
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=120)


def with_out(rng):
    """{name: (call that takes out=, shape of its result, dtype)}."""
    p, (hidden, rows) = random_parameters(DEMO, rng), random_inputs(DEMO, rng, 2, 5)
    memory, taps = fast.gather_decode(p, rows, DEMO, np.float64), np.zeros((2, 9, *hidden.shape[2:]))
    ids, history, m, primes = rng.integers(0, 50, (2, 5)), np.full((2, 2), -1), np.array([3, 5, 7]), np.array([23, 29])
    return {
        "address": (lambda out: fast.address(ids, history, m, primes, None, 7, out=out), (2, 5, 2), np.int64),
        "address_layers": (lambda out: fast.address_layers(ids, np.arange(50), history, m[None], primes[None], None, 7,
                                                           out=out), (1, 2, 5, 2), np.int64),
        "table_rows": (lambda out: fast.table_rows(np.ones((2, 5, 2), np.int64), primes, out=out), (2, 5, 2), np.int64),
        "gather": (lambda out: fast.gather(p["table"], rows, p["column_offsets"], out=out),
                   (2, 5, DEMO.columns, DEMO.row_width), np.float64),
        "gather_decode": (lambda out: fast.gather_decode(p, rows, DEMO, np.float64, out=out), memory.shape, np.float64),
        "project_and_gate": (lambda out: fast.project_and_gate(p, memory, hidden, None, DEMO, out=out), hidden.shape,
                             np.float64),
        "conv_silu": (lambda out: fast.conv_silu(hidden, p["conv_weight"], 3, taps, out=out), hidden.shape, np.float64),
        "gated_update": (lambda out: fast.gated_update(p, memory, hidden, taps, None, DEMO, 9, out=out)[0],
                         hidden.shape, np.float64),
        "apply_gate": (lambda out: fast.apply_gate(hidden[..., 0], memory, out=out),
                       (*hidden.shape[:3], memory.shape[2]), np.float64),
    }


OUTS = tuple(with_out(np.random.default_rng(0)))


@pytest.mark.parametrize("name", OUTS)
def test_out_receives_the_result(name, rng):
    call, shape, dtype = with_out(rng)[name]
    expected, out = call(None), np.empty(shape, dtype)
    found = call(out)
    assert np.shares_memory(found, out) and found.shape == shape
    assert_close(name, expected, out, "exact")


BAD_OUTS = {
    "wrong shape": (lambda shape, dtype: np.zeros((*shape[:-1], shape[-1] + 1), dtype), "expected"),
    "wrong dtype": (lambda shape, dtype: np.zeros(shape, np.int32), "found int32"),
    "a list": (lambda shape, dtype: [0], "found list"),
    "not contiguous": (lambda shape, dtype: np.zeros((*shape[:-1], 2 * shape[-1]), dtype)[..., ::2], "C-contiguous"),
    "read-only": (lambda shape, dtype: np.broadcast_to(dtype(0), shape).copy(), "read-only"),
}


@pytest.mark.parametrize("bad", BAD_OUTS)
@pytest.mark.parametrize("name", OUTS)
def test_an_unsuitable_out_raises_and_is_not_modified(name, bad, rng):
    call, shape, dtype = with_out(rng)[name]
    make, message = BAD_OUTS[bad]
    out = make(shape, dtype)
    if bad == "read-only":
        out.setflags(write=False)
    before = np.array(out)
    with pytest.raises(InputError, match=message) as caught:
        call(out)
    assert caught.value.argument == "out"
    assert np.array_equal(before, out)


def test_an_out_that_overlaps_an_input_raises(rng):
    x = rng.random((1, 5, 2, 3))
    with pytest.raises(InputError, match="shares memory"):
        fast.conv_silu(x, np.ones((2, 3, 2)), 1, np.zeros((1, 1, 2, 3)), out=x)


def test_memory_is_reused_after_its_last_reference(monkeypatch):
    monkeypatch.setattr(_buffers, "_kept", {})
    first = _buffers.aligned((3, _buffers.STREAM_ABOVE), np.uint8)
    address, held = first.ctypes.data, {"view": first[1:, 5:], "buffer": memoryview(first[2])}
    held["a copy of the base's memoryview"] = memoryview(first.base.base)
    del first
    for name in tuple(held):
        assert _buffers.aligned((3, _buffers.STREAM_ABOVE), np.uint8).ctypes.data != address, name
        del held[name]
    assert _buffers.aligned((3, _buffers.STREAM_ABOVE), np.uint8).ctypes.data == address


def test_memory_kept_for_reuse_is_bounded(monkeypatch):
    monkeypatch.setattr(_buffers, "_kept", {})
    monkeypatch.setattr(_buffers, "MAX_KEPT", 5 * _buffers.STREAM_ABOVE)
    for size in (2, 3, 4, 7):
        _buffers.aligned((size * _buffers.STREAM_ABOVE,), np.uint8)
        assert sum(raw.nbytes for raw in _buffers._kept.values()) <= _buffers.MAX_KEPT
        assert len(_buffers._kept) == (size < 5)


def misshapen(rng):
    """{name: (call with one argument of a wrong shape, name of that argument)}."""
    p, (hidden, _) = random_parameters(DEMO, rng), random_inputs(DEMO, rng, 2, 5)
    memory, taps = rng.random((2, 5, DEMO.memory_width)), np.zeros((2, 9, *hidden.shape[2:]))
    ids, history, m, primes = rng.integers(0, 50, (2, 5)), np.full((2, 2), -1), np.array([3, 5, 7]), np.array([23, 29])
    step = latent_step(rng, 7)
    x, experts = rng.random((4, 9)), {n: rng.random(s) for n, s in expert_shapes(EXPERTS, 9).items()}
    return {
        "address": (lambda: fast.address(ids, history[:1], m, primes, None, 7), "history"),
        "address, offsets": (lambda: fast.address(ids, history, m, primes, primes[:1], 7), "offsets"),
        "factored_score": (lambda: fast.factored_score(hidden, hidden[:, :3], p["key_gain"], p["key_gain"], 0), "key"),
        "factored_score, gain": (lambda: fast.factored_score(hidden, hidden, p["key_gain"][0], p["key_gain"], 0),
                                 "query_gain"),
        "conv_silu": (lambda: fast.conv_silu(hidden, p["conv_weight"], 3, taps[:, 1:]), "taps"),
        "conv_silu, weight": (lambda: fast.conv_silu(hidden, p["conv_weight"][:2], 3, taps), "weight"),
        "gated_update": (lambda: fast.gated_update(p, memory, hidden, taps[:1], None, DEMO, 9), "taps"),
        "gated_update, memory": (lambda: fast.gated_update(p, memory[:1], hidden, taps, None, DEMO, 9), "memory"),
        "project_and_gate": (lambda: fast.project_and_gate(p, memory, hidden, np.ones((2, 4), bool), DEMO), "dead"),
        "cross_entropy": (lambda: fast.cross_entropy(x, np.zeros(5, np.int64)), "targets"),
        **{f"attend_absorbed, {name}": (lambda i=i, axis=axis: fast.attend_absorbed(
            *step[:i], np.delete(step[i], 0, axis), *step[i + 1 :], 0.3), name)
           for i, axis, name in ((1, 2, "q_pe"), (3, 1, "k_pe"), (4, 1, "w_uk"), (5, 0, "w_uv"), (6, 2, "allowed"))},
        "routed_grouped": (lambda: fast.routed_grouped(experts, x, np.zeros((5, 2), np.int64), np.ones((5, 2))),
                           "chosen"),
    }


@pytest.mark.parametrize("name", misshapen(np.random.default_rng(0)))
def test_arguments_of_the_wrong_shape_raise(name, rng):
    call, argument = misshapen(rng)[name]
    with pytest.raises(InputError, match="shape") as caught:
        call()
    assert caught.value.argument == argument


def test_the_import_error_without_numba_has_an_install_hint():
    code = ("import sys; sys.modules['numba'] = None\n"
            "import engram_ref, numpy as np\n"
            "try:\n    import engram_ref.backends.numba\n"
            "except engram_ref.InputError as error:\n    print(error)\n"
            "print(engram_ref.Addressing(engram_ref.preset('tiny')).rows([1, 2], 1).shape)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install numba" in done.stdout and "NumPy" in done.stdout and "(2, 8)" in done.stdout


def test_the_namespace_is_complete():
    assert set(ops.__all__) <= set(fast.__all__)
    assert [name for name in fast.__all__ if not hasattr(fast, name)] == []
    assert engram_ref.Addressing(engram_ref.preset("tiny"), ops=fast).rows([5], 1).shape == (1, 8)
