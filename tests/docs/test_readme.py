"""The README's Python code runs as written, and its commands exist."""

import re
from pathlib import Path

import numpy as np

from engram_ref.cli.commands import COMMANDS
from tests.compare import assert_close

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_python_blocks_run_in_order(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    scope = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), scope)
    shapes = {name: scope[name].shape for name in ("both", "rows", "flat")}
    assert len(blocks) == 4 and shapes == {"both": (2, 1, 4, 24), "rows": (4, 8), "flat": (4, 24)}
    cut = np.concatenate([scope["first"], scope["rest"]], axis=1)[0]
    assert_close("cut in two", scope["logits"], cut, "f64", terms=scope["model"].backbone.hidden_size)
    assert "output [B=1, T=4, M=4, D=16]" in capsys.readouterr().out


def test_every_command_in_the_readme_exists():
    named = set(re.findall(r"^engram-ref (\w+)", README, re.M))
    assert named == set(COMMANDS)
