"""Run one percent script, cell by cell, and write its output as JSON.

    python run_tutorial.py SCRIPT RESULT.json

Each tutorial runs in a separate process, so tutorials do not share imports, figures or random state.
The cells of a script share one namespace and keep their line numbers, so a traceback points into the
script.
"""

import ast
import contextlib
import inspect
import io
import json
import linecache
import sys
import traceback
import types
import warnings
from pathlib import Path

import percent
from figures import figures_as_svg

PACKAGE = "engram_ref"


class CellError(Exception):
    """A cell failed; has the line and a one-line reason."""

    def __init__(self, line: int, reason: str):
        super().__init__(reason)
        self.line, self.reason = line, reason


def run(path: Path) -> dict:
    """{"cells": [{"stdout", "figures"}, ...], "ops": [...]} or {"error": {"line", "reason"}}."""
    module = types.ModuleType("__main__")
    module.__file__ = str(path)
    sys.modules["__main__"] = module               # dataclasses and pickle look here
    cells = percent.read_cells(path)
    try:
        results = [run_cell(cell, path, module.__dict__) for cell in cells]
    except CellError as error:
        return {"error": {"line": error.line, "reason": error.reason}}
    return {"cells": results, "ops": used_names(path, module.__dict__)}


def run_cell(cell: percent.Cell, path: Path, namespace: dict) -> dict:
    """Execute one cell and return its printed text and the figures that it left open."""
    if cell.kind == "markdown":
        return {"stdout": "", "figures": []}
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            padded = "\n" * (cell.line - 1) + cell.text     # keeps the line numbers of the file
            exec(compile(padded, str(path), "exec", dont_inherit=True), namespace)
    except (Exception, SystemExit) as error:
        raise CellError(*explain(error, cell, path)) from None
    try:
        return {"stdout": printed.getvalue(), "figures": figures_as_svg()}
    except ValueError as error:
        raise CellError(cell.line, str(error)) from None


def explain(error: BaseException, cell: percent.Cell, path: Path) -> tuple[int, str]:
    """The line of the script that failed, and the error in one line."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno, f"SyntaxError: {error.msg}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    line = frames[-1].lineno if frames else cell.line
    text = str(error) or linecache.getline(str(path), line).strip()   # an assert without a message: its source
    return line, f"{type(error).__name__}: {text}"


def used_names(path: Path, namespace: dict) -> list[dict]:
    """Every public function and class of the package that the script uses, in order of use.

    The names come from the script's source and are resolved in its final namespace, so an alias or a
    re-export is listed where it is defined.
    """
    summaries = {}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, (ast.Name, ast.Attribute))]
    for node in sorted(nodes, key=lambda n: (n.lineno, n.col_offset)):
        target = function_of(look_up(ast.unparse(node).split("."), namespace))
        module = getattr(target, "__module__", None) or ""
        name = f"{module}.{getattr(target, '__qualname__', '')}"
        public = not any(part.startswith(("_", "<")) for part in name.split("."))      # "<lambda>" has no page
        if isinstance(target, (type, types.FunctionType)) and module.split(".")[0] == PACKAGE and public:
            summaries.setdefault(name, first_line(target))
    return [{"path": name, "summary": text} for name, text in summaries.items()]


def look_up(parts: list[str], namespace: dict):
    """Resolve a.b.c without evaluating properties; None if it does not exist."""
    target = namespace.get(parts[0])
    for part in parts[1:]:
        if isinstance(target, (types.ModuleType, type, types.SimpleNamespace)):
            target = getattr(target, part, None)
        else:
            target = inspect.getattr_static(type(target), part, None)
    return target


def function_of(target):
    """The function behind a static method or a method of an instance, such as an op; other objects unchanged."""
    of_class = isinstance(getattr(target, "__self__", None), type)
    return target if of_class else getattr(target, "__func__", target)


def first_line(target) -> str:
    return (inspect.getdoc(target) or "").split("\n")[0]


def main() -> None:
    script, result = Path(sys.argv[1]), Path(sys.argv[2])
    sys.path[0] = str(script.resolve().parent)     # as if the script had been run directly
    warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive")
    result.write_text(json.dumps(run(script)), encoding="utf-8")


if __name__ == "__main__":
    main()
