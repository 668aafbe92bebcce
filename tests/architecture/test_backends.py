"""A backend is the definition over again: the same files, the same functions, the same parameters."""

import ast
import importlib

import pytest

import engram_ref
from engram_ref import ops
from tests.architecture.test_architecture import PACKAGE

BACKENDS = sorted(path.parent.name for path in (PACKAGE / "backends").glob("*/__init__.py"))


def public_functions(path):
    """Name -> definition of every function of a file that is not private."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return {node.name: node for node in body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")}


def parameters(function):
    """Names and defaults in order, as they are written; annotations may differ."""
    arguments = function.args
    plain = arguments.posonlyargs + arguments.args
    defaults = [None] * (len(plain) - len(arguments.defaults)) + arguments.defaults
    pairs = [*zip(plain, defaults, strict=True), *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    return [(argument.arg, None if default is None else ast.unparse(default)) for argument, default in pairs]


DEFINED = {name: (path.stem, function) for path in (PACKAGE / "ops").glob("*.py")
           for name, function in public_functions(path).items()}
TWINS = [(backend, path.stem, name, function) for backend in BACKENDS
         for path in sorted((PACKAGE / "backends" / backend).glob("[!_]*.py"))
         for name, function in public_functions(path).items() if name in DEFINED]
"""Every function of a backend that has the name of an op's; private files and other names serve these."""


def test_backends_are_found():
    assert "torch" in BACKENDS and len(TWINS) > 80


@pytest.mark.parametrize("backend, file, name, function", TWINS, ids=[".".join(twin[:3]) for twin in TWINS])
def test_a_twin_has_the_file_and_the_parameters_of_its_op(backend, file, name, function):
    home, definition = DEFINED[name]
    assert file == home
    found, expected = parameters(function), parameters(definition)
    assert found in (expected, [*expected, ("out", "None")])


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_a_namespace_has_of_its_own_are_twins(backend):
    """An op's name stands for the definition itself or for its twin: no other function goes by it."""
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    namespace = importlib.import_module(f"engram_ref.backends.{backend}")
    own = {name for name in ops.__all__ if getattr(namespace, name) is not getattr(ops, name)}
    assert own and own <= {name for other, _, name, _ in TWINS if other == backend}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_has_every_name_of_ops(backend):
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    namespace = importlib.import_module(f"engram_ref.backends.{backend}")
    assert [name for name in ops.__all__ if not hasattr(namespace, name)] == []
    assert set(ops.__all__) <= set(namespace.__all__)


@pytest.mark.parametrize("written", ["x, out=None, more=1", "y", "x, y", "x=1", "x, *, out=2"])
def test_another_signature_would_be_noticed(written):
    function = ast.parse(f"def f({written}): pass").body[0]
    assert parameters(function) not in ([("x", None)], [("x", None), ("out", "None")])


def test_ops_and_models_import_no_backend():
    for folder in ("ops", "model"):
        sources = [path.read_text(encoding="utf-8") for path in (PACKAGE / folder).rglob("*.py")]
        assert sources and not any("engram_ref.backends" in source for source in sources)
        assert not any("torch" in line and "import" in line for source in sources for line in source.splitlines())
    assert engram_ref.engram.__kwdefaults__["ops"] is ops
