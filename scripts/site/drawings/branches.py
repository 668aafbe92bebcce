"""The parts of an Engram module that all residual branches share, and those that exist once per branch."""

from diagrams import COLOURS, arrow, box, line, svg, text

BLUE, ORANGE = COLOURS[:2]
BRANCHES, TOP, STEP, HEIGHT = 4, 74, 48, 32


def draw() -> str:
    # Shared by all branches: memory and value.
    rows = [TOP + i * STEP for i in range(BRANCHES)]
    middle = (rows[0] + rows[-1] + HEIGHT) / 2
    parts = [box(2, middle - 30, 84, 60, "rows,\nmemory e", BLUE, fill=True),
             box(130, 16, 96, HEIGHT, "value v", BLUE, fill=True)]
    parts += [line([(86, middle), (108, middle)]), line([(108, rows[-1] + HEIGHT / 2), (108, 32)]),
              arrow([(108, 32), (130, 32)]), line([(226, 32), (372, 32), (372, rows[-1] - 6)], BLUE)]
    # One row per branch, from key to residual.
    for i, y in enumerate(rows, start=1):
        centre = y + HEIGHT / 2
        parts += [arrow([(108, centre), (130, centre)]), box(130, y, 56, HEIGHT, f"key {i}", ORANGE, fill=True),
                  arrow([(186, centre), (212, centre)]),
                  box(212, y, 128, HEIGHT, f"gate {i}, from h{i}", ORANGE, fill=True),
                  arrow([(340, centre), (398, centre)]), box(398, y, 46, HEIGHT, f"u{i}", ORANGE, fill=True),
                  arrow([(444, centre), (470, centre)]),
                  box(470, y, 104, HEIGHT, f"norm, conv {i}", ORANGE, fill=True),
                  arrow([(574, centre), (596, centre)]), text(602, centre, f"h{i} + Y{i}", "start")]
        parts.append(arrow([(372, y - 6), (372, centre - 9), (396, centre - 9)], BLUE))
    # The legend.
    foot = rows[-1] + HEIGHT + 26
    parts += [box(130, foot - 8, 16, 16, "", BLUE, fill=True), text(154, foot, "shared by all branches", "start", 13),
              box(340, foot - 8, 16, 16, "", ORANGE, fill=True), text(364, foot, "one per branch", "start", 13)]
    return svg(660, foot + 16, *parts)
