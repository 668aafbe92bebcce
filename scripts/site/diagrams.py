"""Diagrams: SVG written by small scripts, one file a diagram in the folder `drawings`.

    drawings/layers.py:   def draw() -> str: return svg(600, 200, box(...), arrow(...))

The file's name is the diagram's name. In a page or a tutorial, on a line of its own,
`{{ diagram: layers | what it shows, in words }}` puts it there, inline, so that it takes the
page's ink and the palette of site.css; `assets/diagrams/layers.svg` is the same for itself.

Lengths are CSS pixels; 14 is the size of the text. Keep a drawing under 680 wide: that is the
column of the page.
"""

import html
import importlib.util
import re
from pathlib import Path

from figures import PALETTE

FOLDER = Path(__file__).parent / "drawings"
INK, PAPER = "currentColor", "var(--figure-paper, #ffffff)"
COLOURS = [f"var(--figure-{i}, {colour})" for i, colour in enumerate(PALETTE)]
FONTS = 'font-family="Helvetica, Arial, sans-serif"'


def svg(width: float, height: float, *parts: str) -> str:
    """The whole drawing."""
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
            f'{FONTS} font-size="14" fill="currentColor">{"".join(parts)}</svg>')


def box(x: float, y: float, width: float, height: float, label: str = "", colour: str = INK, fill: bool = False) -> str:
    """A rectangle with its label in the middle; newlines in the label start new lines."""
    tint = f'fill="{colour}" fill-opacity="0.14"' if fill else 'fill="none"'
    shape = (f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="4" {tint} '
             f'stroke="{colour}" stroke-width="1.4"/>')
    return shape + text(x + width / 2, y + height / 2, label)


def text(x: float, y: float, label: str, anchor: str = "middle", size: float = 14, colour: str = INK) -> str:
    """Words centred on the height y; anchor is start, middle or end."""
    lines = label.split("\n") if label else []
    top = y - (len(lines) - 1) * size * 0.62 + size * 0.35
    return "".join(f'<text x="{x:g}" y="{top + i * size * 1.24:.1f}" text-anchor="{anchor}" font-size="{size:g}" '
                   f'fill="{colour}">{html.escape(line, quote=False)}</text>' for i, line in enumerate(lines))


def line(points: list[tuple[float, float]], colour: str = INK, dashed: bool = False, width: float = 1.4) -> str:
    """Straight strokes through the points."""
    path = "M " + " L ".join(f"{x:g} {y:g}" for x, y in points)
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width:g}"{dash}/>'


def arrow(points: list[tuple[float, float]], colour: str = INK, dashed: bool = False) -> str:
    """A line whose last point has a head; no <marker>, whose id would clash on a page."""
    (x0, y0), (x1, y1) = points[-2:]
    length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5 or 1.0
    ux, uy = (x1 - x0) / length, (y1 - y0) / length
    back = (x1 - 9 * ux, y1 - 9 * uy)
    left, right = ((back[0] + s * 4 * uy, back[1] - s * 4 * ux) for s in (1, -1))
    head = " ".join(f"{x:.1f},{y:.1f}" for x, y in ((x1, y1), left, right))
    return line([*points[:-1], back], colour, dashed) + f'<polygon points="{head}" fill="{colour}"/>'


def names(folder: Path = FOLDER) -> list[str]:
    return sorted(file.stem for file in folder.glob("*.py") if not file.stem.startswith("_"))


def draw(name: str, folder: Path = FOLDER) -> str:
    """The SVG of one diagram; the file is read anew each time, so `mkdocs serve` shows edits."""
    file = folder / f"{name}.py"
    if not file.exists():
        raise ValueError(f"diagram '{name}': expected one of {names(folder)}")
    spec = importlib.util.spec_from_file_location(f"drawing_{name}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return re.sub(r">\s+<", "><", module.draw().strip())
