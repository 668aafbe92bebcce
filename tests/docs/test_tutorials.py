"""Every tutorial runs and finds all that it asserts, and so does every script among the docs.

The site shows the very result seen here.
"""

import pytest

pytest.importorskip("matplotlib")
import tutorial

SCRIPTS = sorted((tutorial.ROOT / "tutorials").glob("[0-9]*.py")) + tutorial.scripts_in(tutorial.ROOT / "docs")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_tutorial(path):
    result = tutorial.run(path, tutorial.ROOT / ".cache" / "tutorials")
    page, figures = tutorial.to_markdown(path, result)
    assert page.startswith("# ") and all(figure["alt"] for figure in figures.values())
