"""The rooms of the package in the order in which they may import one another."""

from diagrams import COLOURS, arrow, box, svg, text

BLUE, ORANGE, TEAL, VIOLET = COLOURS[:4]
STEPS = [("config, axes,\nstages, trace", BLUE, "what there is"), ("ops", ORANGE, "the definition"),
         ("backends, text,\naddressing", TEAL, "faster twins;\nwhere ids lead"), ("model", TEAL, "ops put\ntogether"),
         ("training,\nstorage, oracle", VIOLET, "what one\ndoes with it"), ("lab, cli", VIOLET, "what one\nstarts")]
WIDTHS = [104, 66, 116, 62, 116, 66]
GAP, TOP, HEIGHT = 20, 2, 48


def draw() -> str:
    parts, x = [], 2
    for i, ((label, colour, note), width) in enumerate(zip(STEPS, WIDTHS, strict=True)):
        parts.append(box(x, TOP, width, HEIGHT, label, colour, fill=True))
        parts.append(text(x + width / 2, TOP + HEIGHT + 18 + 7 * note.count("\n"), note, size=12))
        if i:
            parts.append(arrow([(x - GAP, TOP + HEIGHT / 2), (x, TOP + HEIGHT / 2)]))
        x += width + GAP
    return svg(x - GAP + 2, TOP + HEIGHT + 42, *parts)
