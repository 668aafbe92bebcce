"""Every rounding of DeepSeek-V4.1's module; the document v4.1.md has the same drawing as text."""

from diagrams import COLOURS, INK, PAPER, arrow, box, line, svg, text

BLUE, ORANGE, TEAL, *_ = COLOURS
LEFT, MIDDLE, RIGHT = 130, 380, 600                  # centres of the three lanes: memory, gate, hidden state
WIDE, NARROW, HEIGHT = 256, 150, 44


def draw() -> str:
    return svg(676, 668, *memory(), *gate(), *hidden(), *legend())


def node(x: float, y: float, label: str, width: float, colour: str) -> str:
    return box(x - width / 2, y, width, HEIGHT, label, colour, fill=True)


def step(x: float, top: float, label: str, mark: str = "") -> list[str]:
    """An arrow down with the operation next to it, and a circle that names a rounding."""
    parts = [arrow([(x, top), (x, top + 62)]), text(x + 26, top + 28, label, "start", 13)]
    return parts + (rounding(x, top + 28, mark) if mark else [])


def rounding(x: float, y: float, mark: str) -> list[str]:
    disc = f'<circle cx="{x:g}" cy="{y:g}" r="14" fill="{PAPER}" stroke="{ORANGE}" stroke-width="2"/>'
    return [disc, text(x, y, mark, size=13, colour=ORANGE)]


def memory() -> list[str]:
    """Left lane: from the table row to the keys and the value."""
    return [node(LEFT, 2, "table row: 256 E4M3 codes,\n8 E8M0 scales", WIDE, BLUE),
            *step(LEFT, 46, "decode in float32,\nround to bfloat16", "R1"),
            node(LEFT, 110, "memory e: 6144 bfloat16", WIDE, BLUE),
            *step(LEFT, 154, "round to E4M3,\none scale per 32", "R2"),
            node(LEFT, 218, "x: values of FP8 numbers,\nin float32", WIDE, BLUE),
            *step(LEFT, 262, "W x, sums in float32,\nround to bfloat16", "R3"),
            node(LEFT, 326, "keys k[m], value v: bfloat16", WIDE, BLUE)]


def gate() -> list[str]:
    """Middle lane, all in float32: score, gate, product, sum."""
    edge = LEFT + WIDE / 2
    return [arrow([(edge, 340), (MIDDLE - NARROW / 2, 340)]), text(edge + 22, 331, "k[m]", size=13),
            node(MIDDLE, 326, "score s[m]:\nfloat32", NARROW, TEAL), arrow([(MIDDLE, 370), (MIDDLE, 400)]),
            node(MIDDLE, 402, "gate a[m]:\nfloat32", NARROW, TEAL), arrow([(MIDDLE, 446), (MIDDLE, 476)]),
            line([(LEFT, 370), (LEFT, 500)]), arrow([(LEFT, 500), (MIDDLE - NARROW / 2, 500)]),
            text(LEFT + 14, 490, "v", size=13),
            node(MIDDLE, 478, "u[m] = a[m] v:\nfloat32", NARROW, TEAL), arrow([(MIDDLE, 522), (MIDDLE, 552)]),
            node(MIDDLE, 554, "h + u: float32", NARROW, TEAL),
            arrow([(MIDDLE, 598), (MIDDLE, 660)]), *rounding(MIDDLE, 626, "R4"),
            text(MIDDLE + 26, 626, "round to bfloat16: the new residual stream", "start", 13)]


def hidden() -> list[str]:
    """Right lane: the hidden state goes to the score and to the sum."""
    return [node(RIGHT, 2, "hidden state h:\nbfloat16", NARROW, BLUE), line([(RIGHT, 46), (RIGHT, 576)]),
            arrow([(RIGHT, 348), (MIDDLE + NARROW / 2, 348)]), arrow([(RIGHT, 576), (MIDDLE + NARROW / 2, 576)])]


def legend() -> list[str]:
    return [text(2, 600, "A circle is a rounding.", "start", 13, INK),
            text(2, 618, "Nothing else is rounded,", "start", 13, INK),
            text(2, 636, "except by float32 arithmetic.", "start", 13, INK)]
