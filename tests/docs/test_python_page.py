"""The page about ports in Python: its code runs against a right port, and fails against a wrong one."""

import re
import sys
import types
from importlib.util import find_spec
from pathlib import Path

import pytest

from engram_ref import Addressing, EngramState, engram, ops, preset
from engram_ref.oracle.streams import RowStream
from engram_ref.testing.checks import reduced
from tests.unit.test_testing_plugin import run_pytest

PAGE = (Path(__file__).parents[2] / "docs" / "oracle" / "python.md").read_text(encoding="utf-8")
CODE = re.findall(r"```python\n(.*?)```", PAGE, re.S)
V41, DEMO = Addressing(preset("deepseek-v4.1-flash")), preset("demo")


def module(parameters, hidden, rows, taps, dead):
    state = EngramState(taps)
    return engram(parameters, hidden, rows, reduced(DEMO, 1), state=state, dead=dead), state.taps


def step(ids, history):
    return V41.rows(ids, 1, history), V41.advance(history, ids)


def rows_of(config):
    addressing = Addressing(config)
    return lambda ids, history: addressing.rows(ids, config.layer_ids[0], history)


def right_port():
    """A module with the names that the page imports."""
    port = types.ModuleType("my_port")
    vars(port).update(rows=lambda ids, history: V41.rows(ids, 1, history), module=module, step=step, rows_of=rows_of,
                      Stream=lambda batch: RowStream(V41, 1, batch), gate=ops.gate, silu=ops.silu)
    return port


def run_page(port, monkeypatch):
    """Run all code of the page in order; blocks with torch only where it is installed."""
    monkeypatch.setitem(sys.modules, "my_port", port)
    space = {}
    if find_spec("torch"):
        from engram_ref.backends import load
        space["TorchModule"] = lambda: lambda p, h, r, taps, dead: engram(
            p, h, r, reduced(DEMO, 1), state=EngramState(taps), dead=dead, ops=load("torch"))
    for block in CODE:
        if "import torch" not in block or find_spec("torch"):
            exec(compile(block, "page", "exec"), space)


def test_the_code_runs(monkeypatch, capsys):
    assert len(CODE) == 7
    run_page(right_port(), monkeypatch)
    assert capsys.readouterr().out == "gate\n"


@pytest.mark.parametrize("name, wrong", {
    "rows": lambda ids, history: V41.rows(ids, 1), "module": lambda p, hidden, *rest: hidden,
    "step": lambda ids, history: (V41.rows(ids, 1), None)}.items())
def test_the_code_fails_for_a_wrong_port(name, wrong, monkeypatch):
    port = right_port()
    setattr(port, name, wrong)
    with pytest.raises(AssertionError, match="First difference"):
        run_page(port, monkeypatch)


def test_the_report_on_the_page_is_what_is_printed():
    from engram_ref.testing import check_rows
    from tests.ports_in_python import rows_port

    shown = re.findall(r"```text\n(First.*?)\n```", PAGE, re.S)[0]
    with pytest.raises(AssertionError) as caught:
        check_rows(rows_port(V41.config, "window-late"), V41.config)
    assert str(caught.value) == shown


def test_the_test_file_on_the_page_runs(tmp_path):
    [file] = re.findall(r"```python title=\"test_port.py\"\n(.*?)```", PAGE, re.S)
    (tmp_path / "test_port.py").write_text(file, encoding="utf-8")
    (tmp_path / "my_port.py").write_text("from engram_ref.ops import gate, silu\n", encoding="utf-8")
    assert re.search(r"\d\d passed", run_pytest(tmp_path).stdout)
