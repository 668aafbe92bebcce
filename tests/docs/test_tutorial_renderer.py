"""Running tutorials as scripts, reporting the line of a failure, and rendering them as pages."""

import re
import textwrap

import pytest

pytest.importorskip("matplotlib")
import percent
import tutorial

TITLE = "# %% [markdown]\n# # Title\n"


@pytest.fixture
def script(tmp_path):
    def write(body: str, head: str = TITLE):
        path = tmp_path / "07_topic.py"
        path.write_text(head + textwrap.dedent(body), encoding="utf-8")
        return path
    return write


FIGURE = "# %%\nimport matplotlib.pyplot as plt\nfig, ax = plt.subplots()\nax.plot([1, 2])\n"

FAILURES = {
    "assert-with-text": ("# %%\nx = 1\nassert x == 2, 'x is one'\n", r"07_topic\.py:5: AssertionError: x is one"),
    "bare-assert": ("# %%\n\nassert 1 == 2\n", r"07_topic\.py:5: AssertionError: assert 1 == 2"),
    "second-cell": ("# %%\nx = 1\n# %%\ny = x\ny / 0\n", r"07_topic\.py:7: ZeroDivisionError: "),
    "inside-a-function": ("# %%\ndef f():\n    raise KeyError('k')\n# %%\nf()\n", r"07_topic\.py:5: KeyError"),
    "syntax": ("# %%\nx = 1\nx = = 2\n", r"07_topic\.py:5: SyntaxError"),
    "exit": ("# %%\nimport sys\nsys.exit(3)\n", r"07_topic\.py:5: SystemExit: 3"),
    "figure-without-title": (FIGURE + "fig.set_label('words')\n", r"07_topic\.py:4: figure: expected a title"),
    "figure-without-alt": (FIGURE + "ax.set_title('It rises')\n", r"07_topic\.py:4: figure: expected an alt text"),
    "figure-with-a-cut-title": (FIGURE + "ax.set_title('It rises, ' * 20)\nfig.set_label('words')\n",
                                r"07_topic\.py:4: figure: the title 'It rises, .* is wider than the figure"),
    "unknown-tag": ("# %% tags=[\"anser\"]\nx = 1\n", r"07_topic\.py:3: tags: expected some of"),
    "markdown-without-sign": ("# %% [markdown]\nwords\n", r"07_topic\.py:4: a line of a \[markdown\] cell"),
}


@pytest.mark.parametrize("body, message", FAILURES.values(), ids=FAILURES)
def test_a_failure_names_file_line_and_reason(script, body, message):
    with pytest.raises(tutorial.TutorialError, match=message):
        tutorial.run(script(body))


def test_a_script_without_a_title_raises(script):
    with pytest.raises(tutorial.TutorialError, match=r"07_topic\.py:1: no title"):
        tutorial.run(script("# %%\nx = 1\n", head=""))


def test_one_failing_script_fails_the_whole_run(script, tmp_path):
    good = tmp_path / "01_good.py"
    good.write_text(TITLE + "# %%\nx = 1\n", encoding="utf-8")
    with pytest.raises(tutorial.TutorialError, match=r"07_topic\.py:4"):
        tutorial.run_all([good, script("# %%\nassert False\n")])


def test_output_belongs_to_its_cell(script):
    path = script("# %%\nprint('one')\n# %%\nx = 2\n# %%\nprint('three', x + 1)\n")
    assert [cell["stdout"] for cell in tutorial.run(path)["cells"]] == ["", "one\n", "", "three 3\n"]


def test_each_script_runs_in_a_separate_process(script, tmp_path):
    first = tmp_path / "01_first.py"
    first.write_text(TITLE + "# %%\nimport json\njson.leaked = True\n", encoding="utf-8")
    second = script("# %%\nimport json\nprint(hasattr(json, 'leaked'))\n")
    assert tutorial.run_all([first, second])[1]["cells"][1]["stdout"] == "False\n"


def test_a_script_runs_in_an_empty_folder(script, tmp_path):
    (tmp_path / "data.json").write_text("{}", encoding="utf-8")
    path = script("# %%\nimport os\nfrom pathlib import Path\n"
                  "print(os.listdir(), os.listdir(Path(__file__).parent), end='')\n")
    assert tutorial.run(path)["cells"][1]["stdout"] == "['07_topic.py'] ['07_topic.py']"


def test_two_runs_give_the_same_bytes(script):
    path = script(FIGURE + "ax.set_title('It rises')\nfig.set_label('a line')\n# %%\nprint({'a', 'b', 'c'})\n")
    pages = [tutorial.to_markdown(path, tutorial.run(path)) for _ in range(2)]
    assert pages[0] == pages[1]


def test_a_figure_uses_the_page_colours(script):
    path = script(FIGURE + "ax.set_title('It rises')\nfig.set_label('a line')\n")
    (figure,) = tutorial.run(path)["cells"][1]["figures"]
    assert figure["alt"] == "a line"
    assert "currentColor" in figure["svg"] and "var(--figure-0" in figure["svg"]
    assert not re.search(r"<style|<metadata|<\?xml|16191d", figure["svg"])
    ids = re.findall(r'\bid="([^"]+)"', figure["svg"])
    assert all(name.startswith("f") and "-" in name for name in ids) and len(set(ids)) == len(ids)


def test_ops_are_listed_where_they_are_defined(script):
    path = script("# %%\nfrom engram_ref.ops.gate import sigmoid as s\nimport numpy as np\nprint(s(np.zeros(1)))\n")
    assert [op["path"] for op in tutorial.run(path)["ops"]] == ["engram_ref.ops.gate.sigmoid"]


METHODS = """\
# %%
from engram_ref import Vocabulary, ops
from engram_ref.backends import load
numpy, make = load("numpy"), Vocabulary.load
print(ops.gate, numpy.silu, numpy.score)
"""


def test_methods_are_listed_under_the_module_that_defines_them(script):
    found = [op["path"] for op in tutorial.run(script(METHODS))["ops"]]
    assert found[-3:] == ["engram_ref.ops.gate.Gate.gate", "engram_ref.ops.conv.Conv.silu", "engram_ref.ops.gate.score"]
    assert not [name for name in found if name.endswith("Vocabulary.load")]


def test_a_lambda_in_the_package_is_not_an_op(script):
    path = script("# %%\nfrom engram_ref.config import BYTES_PER_ROW\nf = BYTES_PER_ROW['bf16']\nprint(f(4))\n")
    assert tutorial.run(path)["ops"] == []


def test_adjacent_answer_cells_fold_into_one_block(script):
    path = script('# %% tags=["answer"]\nprint(1)\n# %% [markdown] tags=["answer"]\n# Why.\n# %%\nx = 1\n')
    page, _ = tutorial.to_markdown(path, tutorial.run(path))
    assert page.count('??? success "Answer"') == 1
    assert "\n    ```python\n    print(1)\n" in page and "\n    Why.\n" in page and "\n```python\nx = 1\n" in page


def test_the_page_links_its_script(script):
    path = script("# %%\nx = 1\n")
    page, _ = tutorial.to_markdown(path, tutorial.run(path))
    assert page.startswith("# Title\n\n[Download this page as a script](07_topic.py)")


def test_an_unchanged_script_is_not_run_again(script, tmp_path):
    path = script("# %%\nimport os\nprint(os.getpid())\n")
    first, second = (tutorial.run(path, cache=tmp_path / "cache") for _ in range(2))
    path.write_text(path.read_text(encoding="utf-8") + "# one more line\n", encoding="utf-8")
    assert first == second != tutorial.run(path, cache=tmp_path / "cache")


def test_cells_record_their_line_numbers(script):
    cells = percent.read_cells(script("# %%\nx = 1\n\n# %% A name for the cell\ny = 2\n"))
    assert [(cell.kind, cell.line, cell.text) for cell in cells] == [
        ("markdown", 2, "# Title"), ("code", 4, "x = 1"), ("code", 7, "y = 2")]
