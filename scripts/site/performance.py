"""Write the performance page from the newest committed results.

    python performance.py    ->  {"pages": {"reference/performance.md": ...}, "figures": {"performance": ...}}

All numbers, goals, reasons and machine data come from the newest file in engram_ref/bench/results/, and those of a CUDA
device from the newest file in its folder cuda.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from figures import describe
from introspect import plain, table

from engram_ref.bench.report import (
    RESULTS,
    cells,
    chart,
    heading,
    machine_text,
    newest,
    notes,
    sizes_text,
    status_counts,
)

HERE = Path(__file__).parent

HOW = """\
This page compares the speed of the Numba backend with plain implementations of the same work and with the limits of the
machine. All variants run alternately in one process. The tables show the median ratio over all rounds and its
quartiles. Absolute times on a shared processor mean little, so every goal is a ratio.

- **Baselines** are in `scripts/baselines.py` and `scripts/train_baseline.py` and use nothing from this package: the
  rows as the authors' demo computes them, a C loop, and torch code as a competent user writes it. Tests check that
  they return the same results.
- **Limits** are measured in the same rounds: writing or copying the same number of bytes, reading the same number of
  random rows, the bare matrix product, one 64-bit divide per row.
- **Without out=** means that no array is passed in for the result. The backend then reuses the memory of an earlier
  result that is no longer referenced. **New memory** is the same without that reuse: the system has to clear every page
  of a new array, which can take longer than the computation.

The goals assume AVX-512. They are shown but not judged on other processors, at small sizes, or if a baseline is not
installed."""

CUDA = """\
Three compositions have Triton kernels. Each is compared with copying as many bytes as it reads and writes; the module,
most of which uses torch operations, with the matrix product that it contains. The device's own clock measures the
time."""

RUN = """\
## Run it yourself

```sh
engram-ref bench                              # several minutes; the torch baselines need torch, the C loop gcc
engram-ref bench --only rows-bulk,gather --threads 1
engram-ref bench --out result.json --plot result.svg
```

The exit code is 1 if a judged goal was missed. The CUDA benchmarks are included if torch finds a device."""


def page(result: dict, file: str, on_cuda: Sequence[str] = ()) -> str:
    """The page as Markdown; `file` is the name of the result file, `on_cuda` the section about a CUDA device."""
    listed = [f"- {plain(note)}" for note in notes(result)]
    return "\n\n".join([
        "# Performance", HOW,
        f"## Results of {result['date']}\n\n{source_text(result, file)}",
        main_table(result), "{{ figure: performance }}",
        *(["## Notes", "\n".join(listed)] if listed else []),
        "## The machine", f"{plain(machine_text(result))}. {threads_text(result)}",
        "## Sizes and times", variants_table(result), *on_cuda, RUN]) + "\n"


def cuda_section(result: dict, file: str) -> list[str]:
    """The results of a CUDA device, timed by its own clock."""
    return [f"## Results of a CUDA device, {result['date']}",
            f"{CUDA} {source_text(result, file)}", main_table(result), f"{plain(machine_text(result))}.",
            variants_table(result)]


def source_text(result: dict, file: str) -> str:
    """How many goals have each status, and a link to the file."""
    goals = ", ".join(f"{count} {status}" for status, count in status_counts(result).items())
    return f"Goals: {goals}. The file: [{file}](../performance/results/{file})."


def main_table(result: dict) -> str:
    """One line per comparison."""
    head = ["work", "result", "quartiles", "goal", "status"]
    return table(head, [[plain(cell) for cell in line] for line in cells(result)])


def variants_table(result: dict) -> str:
    """Name and sizes of each row, and the median of each variant."""
    lines = []
    for row in result["rows"]:
        shown = (time_text if row["unit"] == "s" else "{:,.0f} bytes".format)
        medians = "<br>".join(f"{plain(name)}: {shown(spread['median'])}" for name, spread in row["variants"].items())
        lines.append([f"`{row['row']}`", plain(heading(row)), plain(sizes_text(row)), medians])
    return table(["row", "work", "sizes", "medians"], lines)


def threads_text(result: dict) -> str:
    """Numbers of threads and rounds, and the kind of threads."""
    threading = result["threading"]
    return (f"Multithreaded benchmarks used {plain(threading['kernels'])} and {threading['blas']} BLAS threads. "
            f"Every variant was measured at least {result['rounds']} times.")


def time_text(seconds: float) -> str:
    """A duration with a suitable unit.

    >>> time_text(9.3e-07), time_text(0.0123), time_text(2.5)
    ('930 ns', '12.3 ms', '2.5 s')
    """
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def main() -> None:
    path, cuda_path = newest(), newest(RESULTS / "cuda")
    if path is None:
        print(json.dumps({}))
        return
    result = json.loads(path.read_text(encoding="utf-8"))
    on_cuda = cuda_section(json.loads(cuda_path.read_text(encoding="utf-8")), cuda_path.name) if cuda_path else []
    with matplotlib.rc_context(fname=HERE / "matplotlibrc"):
        figure = describe(chart(result))
    print(json.dumps({"pages": {"reference/performance.md": page(result, path.name, on_cuda)},
                      "figures": {"performance": figure}}))


if __name__ == "__main__":
    main()
