"""Formulas are converted to SVG or stop the build; dollar signs in code and prices are not formulas."""

import re

import pytest

pytest.importorskip("ziamath")
pytest.importorskip("markdown")
pytest.importorskip("pymdownx")
import equations
import markdown
from docstrings import to_markdown as docstring_to_markdown

OPTIONS = {"pymdownx.arithmatex": {"generic": True, "inline_syntax": ["dollar"], "block_syntax": ["dollar"]}}


def page(text: str) -> str:
    extensions = ["pymdownx.arithmatex", "pymdownx.superfences"]
    html = markdown.markdown(text, extensions=extensions, extension_configs=OPTIONS)
    return equations.replace_formulas(html)


def test_inline_and_display_formulas():
    html = page("A $x^2$ in a line.\n\n$$\n\\frac{a}{b}\n$$\n")
    assert html.count('<span class="formula"><span class="latex">x^2</span><svg aria-hidden="true"') == 1
    assert html.count('<div class="equation"><span class="latex">\\frac{a}{b}</span><svg aria-hidden="true"') == 1
    assert "currentColor" in html


@pytest.mark.parametrize("text", ["`$HOME` and `$x$`", "```bash\necho $HOME $PATH\n```", "it costs $5 or $6", r"\$x\$"],
                         ids=["code-span", "fence", "prices", "escaped"])
def test_dollar_signs_that_do_not_mark_formulas(text):
    assert "<svg" not in page(text)


def test_the_page_text_includes_the_latex_of_formulas():
    assert re.sub("<[^>]+>", "", page("If $a < b$, stop.")) == "If a &lt; b, stop."


BROKEN = {"unknown": r"\foo x", "no-subscript": "x_{", "aligned": r"\begin{aligned}a&=b\end{aligned}",
          "left-without-right": r"\left( a", "half-a-fraction": r"\frac{a}", "brace": "{a"}


@pytest.mark.parametrize("latex", BROKEN.values(), ids=BROKEN)
def test_the_error_quotes_the_formula_that_cannot_be_converted(latex):
    with pytest.raises(equations.FormulaError, match="does not convert") as error:
        equations.draw(latex, inline=False)
    assert latex in str(error.value)


def test_docstring_tables_and_doctests_become_markdown():
    text = "Sum.\n\nscores   [B, T] any *float*\n         dtype\nreturns  [T]\n\n>>> f(1)\n2\n\n    p = q"
    assert docstring_to_markdown(text) == (
        'Sum.\n\n<table class="signature"><tbody>'
        '<tr><th scope="row"><code>scores</code></th><td><code>[B, T]</code> any *float* dtype</td></tr>'
        '<tr><th scope="row">returns</th><td><code>[T]</code></td></tr></tbody></table>'
        "\n\n```pycon\n>>> f(1)\n2\n```\n\n    p = q")


def test_overlines_have_the_text_colour_of_the_page():
    html = page(r"A mean $\overline{x}$.")
    assert "<rect" in html and "black" not in html
