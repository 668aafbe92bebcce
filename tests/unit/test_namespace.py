"""The namespace of ops: every call of an op goes through it, so that ops can be replaced and recorded."""

import collections
import copy
import inspect
import pickle
import sys

import numpy as np
import pytest

from engram_ref import Addressing, InputError, Trace, engram, model_preset, ops, preset
from engram_ref.backends import BACKENDS, load, replace
from engram_ref.model import engram_parameters
from engram_ref.model.engram import start_state
from engram_ref.model.parameters import initialise
from engram_ref.model.transformer import forward
from engram_ref.ops.namespace import FIXED, NUMPY
from scripts.builders.small_modules import V41
from tests.compare import assert_close

TINY = model_preset("tiny")


def backend(name):
    if name != "numpy":
        pytest.importorskip(name, reason=f"{name} is not installed")
    return load(name)


def run_tiny(namespace, **options):
    """Logits of five tokens and, in the absorbed form, of one more."""
    parameters, ids = initialise(TINY, np.random.default_rng(0)), np.array([[1, 2, 3, 4, 5]])
    if hasattr(namespace, "tensors"):
        parameters, ids = namespace.tensors(parameters), namespace.as_array("ids", ids)
    return [forward(parameters, part, TINY, absorbed=absorbed, ops=namespace, check_values=False, **options)
            for part, absorbed in ((ids, False), (ids[:, :1], True))]


def code_of(function):
    return getattr(function, "__func__", function).__code__


def calls_made(namespace):
    """Count how often each op runs, with the interpreter's profiling hook."""
    names = {code_of(getattr(namespace, name)): name for name in set(namespace.names()) - FIXED}
    made = collections.Counter()

    def profile(frame, event, argument):
        if event == "call" and frame.f_code in names:
            made[names[frame.f_code]] += 1

    sys.setprofile(profile)
    try:
        run_tiny(namespace)
    finally:
        sys.setprofile(None)
    return made


def calls_of_replacements(namespace, names):
    """Count how often the replacements of some ops are called, if all are replaced at once."""
    calls = collections.Counter()

    def counted(name, original):
        def replacement(*arguments, **options):
            calls[name] += 1
            return original(*arguments, **options)
        return replacement

    run_tiny(replace(namespace, **{name: counted(name, getattr(namespace, name)) for name in names}))
    return calls


@pytest.mark.parametrize("name", BACKENDS)
def test_a_replacement_receives_every_call(name):
    """Ops that call no other op are replaced together; one that calls others would call the originals."""
    small = backend(name).small
    made = calls_made(small)
    assert len(made) > 45 and made["linear"] > 20
    alone = {op for op in made if inspect.ismethod(getattr(small, op))}
    groups = [made.keys() - alone, *({op} for op in alone)]
    assert sum((calls_of_replacements(small, group) for group in groups), collections.Counter()) == made


@pytest.mark.parametrize("name", BACKENDS)
def test_replace_returns_a_namespace_of_small_ops(name):
    namespace = backend(name)
    made = replace(namespace, sigmoid=namespace.sigmoid)
    assert isinstance(made, type(namespace.small)) and made.small is made and made.steps is made
    twice = replace(made, exp=namespace.exp)
    assert twice.sigmoid is namespace.sigmoid and type(twice).exp is namespace.exp


def test_a_replacement_changes_the_model_output():
    doubled = replace(NUMPY, sigmoid=lambda x: 2 * ops.sigmoid(x))
    plain, changed = run_tiny(NUMPY)[0], run_tiny(doubled)[0]
    assert not np.allclose(plain, changed)
    assert_close("unchanged", plain, run_tiny(NUMPY)[0], "exact")


@pytest.mark.parametrize("name, function", [("nothing", abs), ("as_array", abs), ("frequencies", abs), ("names", abs),
                                            ("sigmoid", 3)])
def test_replacing_anything_but_an_op_raises(name, function):
    with pytest.raises(InputError, match="replace"):
        replace(NUMPY, **{name: function})


@pytest.mark.parametrize("wrong", [None, "numpy", object()])
def test_replacing_in_anything_but_a_namespace_raises(wrong):
    with pytest.raises(InputError, match="ops"):
        replace(wrong, sigmoid=abs)


@pytest.mark.parametrize("name", BACKENDS)
def test_namespaces_are_pickled_by_name(name):
    namespace = backend(name)
    for one in (namespace, namespace.steps, namespace.small):
        assert pickle.loads(pickle.dumps(one)) is one and copy.deepcopy(one) is one
        assert len(pickle.dumps(one)) < 80
    again = pickle.loads(pickle.dumps(replace(namespace, sigmoid=np.tanh)))
    assert again.sigmoid is np.tanh and type(again).__bases__ == (type(namespace.small),)
    addressing = pickle.loads(pickle.dumps(Addressing(preset("tiny"), ops=namespace)))
    assert addressing.ops is namespace


@pytest.mark.parametrize("name", BACKENDS)
def test_a_module_exports_the_names_of_its_namespace(name):
    namespace = backend(name)
    module = ops if name == "numpy" else sys.modules[f"engram_ref.backends.{name}"]
    assert set(namespace.names()) == set(ops.__all__) <= set(module.__all__)
    assert [n for n in namespace.names() if getattr(module, n) != getattr(namespace, n)] == []
    assert repr(namespace) == f"<{type(namespace).__name__} of the backend {name}>"


@pytest.mark.parametrize("name", ["numba", "torch"])
def test_a_backend_module_is_accepted_as_its_namespace(name):
    backend(name)
    assert Addressing(preset("tiny"), ops=sys.modules[f"engram_ref.backends.{name}"]).ops is load(name)


def traced_and_untraced_ops(namespace, run, monkeypatch):
    """The backend's ops that are called by a run with a trace, and by a run without one."""
    kinds = [kind for kind in type(namespace).__mro__ if kind.__module__.startswith("engram_ref.backends")]
    called = []
    for kind in kinds:
        for name in set(vars(kind)) & set(namespace.names()) - FIXED:
            original = getattr(kind, name) if isinstance(vars(kind)[name], staticmethod) else vars(kind)[name]
            wrapped = recording(called, name, kind, original)
            monkeypatch.setattr(kind, name, staticmethod(wrapped) if isinstance(vars(kind)[name], staticmethod)
                                else wrapped)
    run(None)
    without = set(called)
    called.clear()
    run(Trace())
    return set(called), without


def recording(called, name, kind, original):
    def op(*arguments, **options):
        called.append((kind.__name__, name))
        return original(*arguments, **options)
    return op


def run_everything(namespace, trace):
    """Run `forward`, `engram` and `Addressing`, in a plain dialect and in one with FP8 tables."""
    tensors = getattr(namespace, "tensors", dict)
    options = {} if trace is None else {"trace": trace}
    run_tiny(namespace, **options)
    for config in (preset("tiny"), V41):
        rng = np.random.default_rng(0)
        addressing, layer = Addressing(config, ops=namespace), config.layer_ids[0]
        ids = np.array([[3, 4, 5]])
        rows = addressing.rows(ids, layer, trace=trace)
        addressing.rows_of_tokens(ids)
        addressing.stepper(layer)(namespace.as_array("ids", ids[0, :1]), addressing.start(1))
        dtype = np.float32 if config is V41 else np.float64
        hidden = rng.normal(size=(1, 3, config.n_branches, config.hidden_size)).astype(dtype)
        hidden = namespace.as_array("hidden", hidden)
        module = tensors(engram_parameters.initialise(config, layer, rng, dtype))
        state = start_state(config, 1, dtype, ops=namespace)
        engram(module, hidden, rows, config, layer_id=layer, state=state, ops=namespace, **options)


@pytest.mark.parametrize("name", ["numba", "torch"])
def test_fused_ops_run_without_a_trace_and_steps_with_one(name, monkeypatch):
    namespace = backend(name)
    traced, untraced = traced_and_untraced_ops(namespace, lambda trace: run_everything(namespace, trace), monkeypatch)
    fused = {("Fused", op) for op in vars(type(namespace)) if op in namespace.names()}
    steps = {(kind, op) for kind, op in traced if kind != "Fused"}
    assert fused <= untraced and len(fused) >= 3
    assert {op for _, op in steps} >= STEPS_OF_BACKEND[name]
    assert {op for kind, op in traced if kind == "Fused"} <= WITHOUT_A_TRACE


STEPS_OF_BACKEND = {
    "numba": {"rms_norm", "apply_gate", "gather", "table_rows", "routed_grouped", "attend_expanded"},
    "torch": {"inverse_rms", "sigmoid", "short_conv", "gather", "table_rows", "windows", "mix", "score"},
}
WITHOUT_A_TRACE = {"address", "address_layers", "stepper"}
"""Fused ops that Addressing calls in functions without a trace argument."""


def test_an_op_is_an_attribute_of_its_source_file():
    """This includes methods, such as engram_ref.ops.experts.route."""
    files = {name: inspect.getmodule(inspect.unwrap(getattr(getattr(ops, name), "__func__", getattr(ops, name))))
             for name in ops.__all__ if name != "DEAD"}
    assert [name for name, file in files.items() if getattr(file, name) != getattr(ops, name)] == []
    assert len(set(files.values())) > 15


class Custom(type(NUMPY)):
    """A custom namespace."""

    __slots__ = ()

    def sigmoid(self, x):
        return np.ones_like(x)


def test_a_custom_namespace_can_be_copied_and_pickled():
    for again in (pickle.loads(pickle.dumps(Custom())), copy.copy(Custom()), copy.deepcopy(Custom())):
        assert type(again) is Custom and (again.silu(np.full(2, 3.0)) == 3).all()


@pytest.mark.parametrize("name", ["numba", "torch"])
def test_a_subclass_of_fused_keeps_its_ops_when_recording(name):
    """A composition that is recorded or not fused calls the ops of its own namespace."""
    namespace = backend(name)
    calls = []

    class Subclass(type(namespace)):
        __slots__ = ()

        def windows(self, *arguments):
            calls.append("windows")
            return super().windows(*arguments)

    ids, history = (namespace.as_array("ids", x) for x in (np.array([[1, 2]]), np.array([[0]])))
    Subclass().address(ids, history, np.array([3, 5]), np.array([7, 11]), None, 0, record=lambda stage, array: None)
    assert calls == ["windows"]


@pytest.mark.parametrize("wrong", [type(NUMPY), Custom])
def test_a_class_of_ops_is_not_a_namespace(wrong):
    with pytest.raises(InputError, match="ops: expected a namespace of ops"):
        run_tiny(wrong)


def test_replacing_an_op_named_like_an_argument_raises():
    with pytest.raises(InputError, match="replace"):
        replace(NUMPY, ops=abs)
