"""The performance page, generated from the newest committed result.

    python performance.py    ->  {"pages": {"reference/performance.md": ...}, "figures": {"performance": ...}}

All numbers, verdicts, reasons and machine details are read from the newest file in engram_ref/bench/results/.
"""

import json
from pathlib import Path

import matplotlib
from figures import describe
from introspect import plain, table

from engram_ref.bench.report import cells, chart, machine_text, newest, notes, sizes_text, time_text, verdicts

HERE = Path(__file__).parent

HOW = """\
This page shows the speed of the Numba backend as ratios: compared with simple implementations of the same work, and
with the limits of the machine. All sides run alternately in one process, for several rounds; the tables show the median
of the rounds and its quartiles. Absolute times on a shared processor mean little, so no goal is an absolute time.

- **Baselines** are fixed in `scripts/baselines.py` and do not use this package: rows as the authors' demo computes
  them, a C loop, and torch code as a competent user writes it. A test checks that each gives the same answer as ours.
- **Limits** are measured in the same rounds: writing or copying the same number of bytes, reading the same number of
  random rows, the matrix product alone, a 64-bit division per row. Each is the minimum that the work requires.
- **Fresh output** means that every call allocates its result array; otherwise the array is passed in as `out`.

The goals assume AVX-512. On other machines, at small sizes, or if a baseline is not installed, they are shown but not
judged."""

RUN = """\
## Run it yourself

```sh
engram-ref bench                              # takes minutes; torch rows need torch, the C loop needs gcc
engram-ref bench --only P1,P5 --threads 1
engram-ref bench --out result.json --plot result.svg
```

The exit code is 1 if a judged goal is missed. If torch finds a CUDA device, its rows appear too."""


def page(result: dict, file: str) -> str:
    """The page as Markdown; `file` is the name of the result's file."""
    counts = ", ".join(f"{count} {verdict}" for verdict, count in verdicts(result).items())
    listed = [f"- {plain(note)}" for note in notes(result)]
    return "\n\n".join([
        "# Performance", HOW,
        f"## Results of {result['date']}\n\nGoals: {counts}. Data: [{file}](../performance/results/{file}).",
        main_table(result), "{{ figure: performance }}",
        *(["## Notes", "\n".join(listed)] if listed else []),
        "## The machine", f"{plain(machine_text(result))}. {threads_text(result)}",
        "## Sizes and times", times_table(result), RUN]) + "\n"


def main_table(result: dict) -> str:
    """One line per comparison: the measured value, its goal and the verdict."""
    head = ["row", "work", "threads", "measured", "quartiles", "goal", "verdict"]
    return table(head, [[plain(cell) for cell in line] for line in cells(result)])


def times_table(result: dict) -> str:
    """The sizes of each row and the median of each side."""
    lines = []
    for row in result["rows"]:
        shown = (time_text if row["unit"] == "s" else "{:,.0f} bytes".format)
        sides = "<br>".join(f"{plain(name)}: {shown(side['median'])}" for name, side in row["sides"].items())
        lines.append([row["id"], str(row["threads"]), plain(sizes_text(row)), sides])
    return table(["row", "threads", "sizes", "medians"], lines)


def threads_text(result: dict) -> str:
    """The number and kind of threads, and the number of rounds."""
    threading = result["threading"]
    return (f"Unless stated otherwise, a row used {threading['threads']} threads ({plain(threading['kernels'])}) and "
            f"{threading['blas']} BLAS threads. Every side was measured at least {result['rounds']} times.")


def main() -> None:
    path = newest()
    if path is None:
        print(json.dumps({}))
        return
    result = json.loads(path.read_text(encoding="utf-8"))
    with matplotlib.rc_context(fname=HERE / "matplotlibrc"):
        figure = describe(chart(result))
    print(json.dumps({"pages": {"reference/performance.md": page(result, path.name)},
                      "figures": {"performance": figure}}))


if __name__ == "__main__":
    main()
