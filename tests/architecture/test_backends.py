"""Backends have the ops of the definition with the same parameters, and call ops through the namespace."""

import ast
import inspect
import re
from types import FunctionType

import pytest

import engram_ref
from engram_ref import ops
from engram_ref.backends import BACKENDS, load
from engram_ref.ops.namespace import CONSTANTS, FIXED, NUMPY
from engram_ref.ops.small import Small
from tests.architecture.test_architecture import PACKAGE, arithmetic

CHAIN = [kind for kind in type(NUMPY).__mro__ if issubclass(kind, Small)]
WITH_ARITHMETIC = {"routed_grouped_vjp", "routed_naive", "routed_grouped", "stepper"}
"""Compositions that contain arithmetic or slices."""


def backend(name):
    if name != "numpy":
        pytest.importorskip(name, reason=f"{name} is not installed")
    return load(name)


def kinds(namespace):
    """Return the classes of a namespace that are defined in its backend."""
    return [kind for kind in type(namespace).__mro__ if kind.__module__.startswith("engram_ref.backends")]


def parameters(function):
    """Return names and defaults in order; annotations may differ."""
    return [(p.name, p.default) for p in inspect.signature(function).parameters.values() if p.name != "self"]


@pytest.mark.parametrize("name", ["numba", "torch"])
def test_backend_ops_have_the_parameters_of_the_definition(name):
    namespace = backend(name)
    for one in (namespace, namespace.steps, namespace.small):
        wrong = {op: parameters(getattr(one, op)) for op in one.names() if op not in ("DEAD",)
                 and parameters(getattr(one, op)) not in (expected := parameters(getattr(NUMPY, op)),
                                                          [*expected, ("out", None)])}
        assert wrong == {}


@pytest.mark.parametrize("written", [lambda x, out=None, more=1: x, lambda y: y, lambda x, y: x, lambda x=1: x])
def test_different_signature_is_detected(written):
    assert parameters(written) not in (parameters(lambda x: x), parameters(lambda x, out=None: x))


@pytest.mark.parametrize("name", BACKENDS)
def test_functions_in_op_classes_are_methods_or_static(name):
    """A plain function as a class attribute would receive the namespace as its first argument."""
    for kind in [*CHAIN, *kinds(backend(name))]:
        assert vars(kind)["__slots__"] == (), kind
        for attribute, value in vars(kind).items():
            if isinstance(value, FunctionType):
                assert next(iter(inspect.signature(value).parameters)) == "self", f"{kind.__name__}.{attribute}"
                assert value.__qualname__ == f"{kind.__name__}.{attribute}"


@pytest.mark.parametrize("name", BACKENDS)
def test_all_backends_share_the_functions_that_create_constants(name):
    namespace = backend(name)
    assert {op for op in CONSTANTS if getattr(namespace, op) is not getattr(NUMPY, op)} == set()
    assert set(namespace.names()) >= FIXED >= CONSTANTS


def folders(*names):
    return [(path, ast.parse(path.read_text(encoding="utf-8"))) for name in names
            for path in sorted((PACKAGE / name).rglob("*.py"))]


def methods(tree):
    """Return (class, method) for every method of an op class in a file."""
    return [(kind, node) for kind in tree.body if isinstance(kind, ast.ClassDef)
            and any(ast.unparse(base) in {k.__name__ for k in CHAIN} | {"Steps"} for base in kind.bases)
            for node in kind.body if isinstance(node, ast.FunctionDef)]


def direct_calls(function):
    """Yield ops that a method calls by their plain name or through a module."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            text = ast.unparse(node.func)
            owner, _, name = text.rpartition(".")
            if name in set(ops.__all__) - CONSTANTS and owner in ("", "ops", "numpy_ops", "NUMPY"):
                yield f"line {node.lineno}: {text}"


def test_methods_call_ops_through_the_namespace():
    calls_of = {f"{path.name} {kind.name}.{method.name}": list(direct_calls(method))
                for path, tree in folders("ops", "backends") for kind, method in methods(tree)}
    assert len(calls_of) > 40
    assert {name: calls for name, calls in calls_of.items() if calls} == {}


@pytest.mark.parametrize("line", ["y = sigmoid(x)", "y = ops.rms_norm(x, g, e)", "return NUMPY.gate(s, form)"])
def test_direct_call_is_detected(line):
    assert list(direct_calls(ast.parse(line)))


def test_compositions_compute_with_ops_only():
    """Methods with an argument `parameters` use no operator, slice or NumPy function."""
    lines_of = {f"{path.name} {method.name}": [*operators(method), *slices(method)]
                for path, tree in folders("ops") for _, method in methods(tree)
                if any(a.arg == "parameters" for a in method.args.args) and method.name not in WITH_ARITHMETIC}
    assert len(lines_of) > 10
    assert {name: lines for name, lines in lines_of.items() if lines} == {}


def operators(function):
    """Yield arithmetic on anything but sizes, which are assigned as in `B, T, D = x.shape`."""
    sizes = {name.id for node in ast.walk(function) if isinstance(node, ast.Assign) and ".shape" in ast.unparse(node)
             for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    for line in arithmetic(function):
        if not set(re.findall(r"[A-Za-z_]\w*", line.partition(": ")[2])) <= sizes:
            yield line


def slices(function):
    """Yield subscripts of anything but parameters, shapes and the annotation `tuple`."""
    for node in ast.walk(function):
        if isinstance(node, ast.Subscript) and not ast.unparse(node.value).endswith((".shape", "parameters", "tuple")):
            yield f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("line", ["y = B * x", "y = x @ w", "y = np.exp(x)", "y += x"])
def test_operator_is_detected(line):
    assert list(operators(ast.parse(f"B, T = x.shape\n{line}")))
    assert not list(operators(ast.parse("B, T = x.shape\ny = B * T")))


@pytest.mark.parametrize("line", ["y = x[:, 1:]", "y = weights[m]"])
def test_slice_is_detected(line):
    assert list(slices(ast.parse(line)))


def test_no_helper_has_the_name_of_an_op():
    """A function in `ops` with the name of an op is that op."""
    helpers = {f"{path.name} {node.name}" for path, tree in folders("ops") if path.name != "__init__.py"
               for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in ops.__all__
               and inspect.getsourcefile(inspect.unwrap(getattr(ops, node.name))) != str(path)}
    assert helpers == set()


def test_ops_are_never_default_arguments():
    defaults = [ast.unparse(default) for _, tree in folders("ops", "backends", "model") for node in ast.walk(tree)
                if isinstance(node, ast.FunctionDef) for default in [*node.args.defaults, *node.args.kw_defaults]
                if default is not None]
    assert len(defaults) > 50
    assert set(defaults) & (set(ops.__all__) - {"ignore", "DEAD"}) == set()


def test_ops_and_models_import_no_backend():
    for folder in ("ops", "model"):
        trees = [tree for _, tree in folders(folder)]
        targets = {alias for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom | ast.Import)
                   for alias in ([node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])}
        assert targets and not any(t.startswith(("engram_ref.backends", "torch")) for t in targets)
    assert engram_ref.engram.__kwdefaults__["ops"] is NUMPY
