"""Only engram_ref/files.py opens files for writing, renames or copies them; exceptions are listed."""

import ast

import pytest

from tests.architecture.test_architecture import PACKAGE

ROOT = PACKAGE.parent
SOURCES = sorted([*PACKAGE.rglob("*.py"), *(ROOT / "scripts").rglob("*.py")])

WRITER = "engram_ref/files.py"
EXCEPTIONS = {
    "engram_ref/bench/timing.py": "/proc/self/clear_refs, a switch of the kernel",
    "scripts/baselines.py": "C source in a temporary folder; it does not import the package, by design",
    "scripts/site/run_tutorial.py": "a result in the temporary folder of the process that started it",
}
"""File -> the reason for the exception."""

METHODS = {"write_text", "write_bytes", "touch", "tofile", "savetxt", "to_csv", "save_file", "mkstemp",
           "NamedTemporaryFile", "rename", "renames", "link", "symlink", "symlink_to", "hardlink_to", "copyfile",
           "copy2", "copytree", "move"}
INTO_BUFFERS = {"save", "savez", "savez_compressed", "savefig", "dump"}
"""Functions that write to a path or to a buffer; a variable named `buffer` is a buffer."""


def written(tree):
    """Return every call of a module that writes a file, as source text."""
    return [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Call) and writes(node)]


def writes(call):
    """True if the call writes a file."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    owner = ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""
    if name == "open":
        return opens_to_write(call, owner)
    if name == "replace":             # os.replace or Path.replace; str.replace has at least two arguments
        return owner == "os" or (owner != "" and len(call.args) == 1 and not call.keywords)
    if name in INTO_BUFFERS and owner in ("np", "numpy", "json", "pickle", "figure", "plt"):
        return not any(ast.unparse(argument) == "buffer" for argument in call.args)
    return name in METHODS


def opens_to_write(call, owner):
    """True if a call of open, Path.open or os.open opens for anything but reading."""
    if owner == "os":
        return ast.unparse(call.args[0]) != "os.devnull" and "O_RDONLY" not in ast.unparse(call)
    modes = [a.value for a in (*call.args, *(k.value for k in call.keywords if k.arg == "mode"))
             if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    return any(set(mode) & set("wax+") and set(mode) <= set("rwaxbt+") for mode in modes)


@pytest.mark.parametrize("path", SOURCES, ids=[str(path.relative_to(ROOT)) for path in SOURCES])
def test_only_listed_files_write_files(path):
    name = path.relative_to(ROOT).as_posix()
    calls = written(ast.parse(path.read_text(encoding="utf-8")))
    assert bool(calls) == (name in {WRITER, *EXCEPTIONS}), calls


WRITING = ["open(p, 'w')", "open(p, mode='ab')", "p.open('x')", "p.write_text(t)", "np.save(p, a)", "figure.savefig(p)",
           "os.replace(a, b)", "part.replace(kept)", "json.dump(x, f)", "os.open(p, os.O_WRONLY)",
           "shutil.copyfile(a, b)", "save_file(tensors, p)"]
READING = ["open(p)", "open(p, 'rb')", "p.open()", "np.save(buffer, a)", "text.replace('a', 'w')", "replace(config)",
           "dataclasses.replace(c, x=1)", "json.dumps(x)", "webbrowser.open(url)", "os.open(os.devnull, os.O_WRONLY)",
           "trace.save(path)"]


@pytest.mark.parametrize("line", WRITING)
def test_writing_is_detected(line):
    assert written(ast.parse(line)) == [line]


@pytest.mark.parametrize("line", READING)
def test_reading_is_not_writing(line):
    assert written(ast.parse(line)) == []
