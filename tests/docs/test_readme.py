"""The README's Python runs as pasted, and its commands exist."""

import re
from pathlib import Path

from engram_ref.cli.main import COMMANDS

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_python_blocks_run_one_after_the_other(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    scope = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), scope)
    assert len(blocks) == 2 and scope["rows"].shape == (4, 8) and scope["flat"].shape == (4, 24)
    assert "output [B=1, T=4, M=4, D=16]" in capsys.readouterr().out


def test_every_command_it_names_exists():
    named = set(re.findall(r"^engram-ref (\w+)", README, re.M))
    assert named == set(COMMANDS)
