"""The trace: every stage in order, by key; stopping, checking, saving and loading."""

import numpy as np
import pytest

from engram_ref import InputError, Trace, engram
from engram_ref.stages import STAGES, stage_of
from engram_ref.trace import Stopped
from scripts.builders.small_modules import DEMO, NO_CONV, TILEKERNELS, random_inputs, random_parameters
from tests.compare import assert_close

NORMALISED = ["memory", "key", "value", "query_norm", "key_norm", "score", "gate", "gated", "conv_norm", "conv",
              "output"]
FACTORED = [stage for stage in NORMALISED if not stage.endswith("y_norm")]
WITHOUT_CONV = [stage for stage in NORMALISED if not stage.startswith("conv")]


def run(config=DEMO, trace=None, spoil=None, **more):
    rng = np.random.default_rng(1)
    parameters, (hidden, rows) = random_parameters(config, rng), random_inputs(config, rng, 2, 3)
    if spoil:
        parameters[spoil] = parameters[spoil] * np.nan
    return engram(parameters, hidden, rows, config, trace=trace, **more)


@pytest.mark.parametrize(("config", "expected"), [(DEMO, NORMALISED), (TILEKERNELS, FACTORED), (NO_CONV, WITHOUT_CONV)],
                         ids=["normalised", "factored", "without convolution"])
def test_stages_come_in_the_order_of_the_table(config, expected):
    trace = Trace()
    output = run(config, trace)
    assert list(trace) == expected
    assert [stage.name for stage in STAGES if stage.name in expected] == expected
    assert_close("output", output, trace["output"], "exact")


def test_shapes_match_the_stage_table():
    trace = Trace()
    run(DEMO, trace)
    sizes = {"B": 2, "T": 3, "M": 3, "D": 10, "C*W": 20}
    for key in trace:
        assert trace[key].shape == tuple(sizes[axis] for axis in stage_of(key).axes.split()), key
    assert trace.describe("gate") == "gate [B=2, T=3, M=3] float64"
    assert len(str(trace).splitlines()) == len(trace) == len(NORMALISED)


def test_a_trace_does_not_change_the_output():
    assert_close("output", run(), run(trace=Trace()), "exact")


def test_a_trace_keeps_copies():
    trace, array = Trace(), np.ones(3)
    trace.record("score", array)
    array[:] = 2
    assert trace["score"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("stage", NORMALISED)
def test_stop_ends_after_the_named_stage(stage):
    with Trace(stop=stage) as trace:
        run(trace=trace)
        pytest.fail("continued after the stop")
    assert list(trace) == NORMALISED[: NORMALISED.index(stage) + 1]


@pytest.mark.parametrize("stop", ["gate", "layers.1.engram.gate"])
def test_stop_accepts_a_name_or_a_path(stop):
    with Trace(stop=stop) as trace:
        run(trace=trace.at("layers.1.engram"))
    assert list(trace)[-1] == "layers.1.engram.gate"


def test_stop_at_a_different_layer_does_not_end_the_run():
    trace = Trace(stop="layers.2.engram.gate")
    run(trace=trace.at("layers.1.engram"))
    assert list(trace)[-1] == "layers.1.engram.output"


def test_a_trace_catches_only_its_own_stop():
    with pytest.raises(Stopped):
        run(trace=Trace(stop="gate"))
    with pytest.raises(ZeroDivisionError), Trace(stop="gate"):
        raise ZeroDivisionError


def test_a_stopped_run_leaves_the_state_unchanged():
    from engram_ref.model.engram import start_state

    state = start_state(DEMO, 2)
    with Trace(stop="conv") as trace:
        run(trace=trace, state=state)
    assert (state.taps == 0).all()


def test_keys_are_relative_to_a_path():
    trace = Trace()
    below = trace.at("layers.1").at("engram")
    below.record("gate", np.ones(2))
    assert list(trace) == ["layers.1.engram.gate"]
    assert below["gate"] is trace["layers.1.engram.gate"] is below["layers.1.engram.gate"]
    assert "gate" in below
    assert "gate" not in trace
    with pytest.raises(KeyError):
        trace["gate"]
    assert below.describe("gate").startswith("gate [")


@pytest.mark.parametrize(("spoil", "first"), [("table", "memory"), ("key_weight", "key"), ("value_bias", "value"),
                                              ("query_gain", "query_norm"), ("conv_gain", "conv_norm"),
                                              ("conv_weight", "conv")])
def test_the_first_non_finite_stage_raises(spoil, first):
    trace = Trace(check_finite=True, prefix="layers.1")
    with pytest.raises(InputError, match=rf"layers\.1\.{first}: expected finite values, found nan at position \(0, 0"):
        run(trace=trace, spoil=spoil, check=False)
    assert list(trace)[-1] == f"layers.1.{first}"
    unchecked = Trace()
    run(trace=unchecked, spoil=spoil, check=False)
    assert unchecked.first_non_finite() == first


def test_a_finite_trace_has_no_non_finite_stage():
    trace = Trace(check_finite=True)
    run(trace=trace)
    assert trace.first_non_finite() is None


def odd_arrays():
    return {"ids": np.array([[1, -1]]), "gate": np.zeros((1, 0, 4)), "loss": np.array(3.5),
            "layers.1.engram.key": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
            "mask": np.array([True, False]), "codes": np.arange(3, dtype=np.uint8),
            "score": np.array([np.nan, -np.inf, -0.0], dtype=np.float32), "backwards": np.arange(4)[::-1]}


def test_save_and_load_round_trip(tmp_path):
    trace = Trace()
    for key, array in odd_arrays().items():
        trace.record(key, array)
    trace.save(tmp_path / "trace.safetensors")
    loaded = Trace.load(tmp_path / "trace.safetensors")
    assert list(loaded) == list(odd_arrays())
    for key, array in odd_arrays().items():
        assert loaded[key].dtype == array.dtype
        assert_close(key, array, loaded[key], "exact")
    assert [path.name for path in tmp_path.iterdir()] == ["trace.safetensors"]


def test_an_empty_trace_is_saved_and_loaded(tmp_path):
    Trace().save(str(tmp_path / "empty"))
    assert list(Trace.load(str(tmp_path / "empty"))) == []


@pytest.mark.parametrize("keep", [0, 4, 40, -8, -1], ids=lambda n: f"cut at {n}")
def test_a_truncated_file_raises(tmp_path, keep):
    trace, path = Trace(), tmp_path / "trace"
    run(trace=trace)
    trace.save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="truncated"):
        Trace.load(path)


def test_a_file_without_a_trace_raises(tmp_path):
    from safetensors.numpy import save_file

    with pytest.raises(InputError, match="no file at this path"):
        Trace.load(tmp_path / "missing")
    (tmp_path / "text").write_text("not a trace at all, but long enough to have a header", encoding="utf-8")
    with pytest.raises(InputError, match="trace file"):
        Trace.load(tmp_path / "text")
    save_file({"weight": np.ones(2)}, tmp_path / "weights")
    with pytest.raises(InputError, match="trace file"):
        Trace.load(tmp_path / "weights")


def test_a_failed_save_leaves_no_partial_file(tmp_path, monkeypatch):
    trace, path = Trace(), tmp_path / "trace"
    trace.record("gate", np.ones(2))
    with pytest.raises(InputError, match="folder"):
        trace.save(tmp_path / "missing" / "trace")
    trace.save(path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engram_ref.files.os.replace", full)
    trace.record("score", np.ones(9))
    with pytest.raises(InputError, match="No space left"):
        trace.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_can_be_replaced_and_has_ordinary_permissions(tmp_path):
    trace, path = Trace(), tmp_path / "trace"
    for value in (1.0, 2.0):
        trace.record("gate", np.array([value]))
        trace.save(path)
    (tmp_path / "plain").write_bytes(b"")
    assert Trace.load(path)["gate"].tolist() == [2.0]
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
