"""A result in words: the same cells for the terminal and for the page of the docs."""

from collections.abc import Mapping
from pathlib import Path

from engram_ref.bench.judge import KINDS, OURS

Entry = Mapping[str, object]

RESULTS = Path(__file__).parent / "results"
"""Measured results that come with the package: one JSON file per run, its name beginning with the date."""


def newest(folder: Path = RESULTS) -> Path | None:
    """The latest result by file name; None if there is none."""
    return max(folder.glob("*.json"), key=lambda path: path.name, default=None)


def cells(result: Entry) -> list[list[str]]:
    """One line a comparison: row, work, threads, what was found, its quartiles, goal, verdict."""
    return [[row["id"], row["what"], str(row["threads"]), *comparison_cells(asked)]
            for row in result["rows"] for asked in row["comparisons"]]


def comparison_cells(asked: Entry) -> list[str]:
    """What was found, its quartiles, goal, verdict."""
    kind = asked["kind"]
    if asked["median"] is None:
        found, quartiles = f"{phrase(asked)}: {asked['why']}", ""
    else:
        found = f"{amount(kind, asked['median'])} {phrase(asked)}"
        quartiles = " to ".join(amount(kind, asked[q]) for q in ("q1", "q3"))
    return [found, quartiles, goal_text(asked), "" if asked["goal"] is None else str(asked["verdict"])]


def amount(kind: str, value: float) -> str:
    """A value as a person reads it.

    >>> amount("faster", 26.14), amount("limit", 0.834), amount("memory", 1.5), amount("later", 9.87)
    ('26.1x', '83%', '1.50x', '9.9 ms')
    """
    if kind == "limit":
        return f"{100 * value:.0f}%" if value >= 0.1 else f"{100 * value:.1f}%"
    if kind == "later":
        return f"{value:.1f} ms"
    return f"{value:.0f}x" if value >= 99.5 else f"{value:.1f}x" if value >= 9.95 else f"{value:.2f}x"


def phrase(asked: Entry) -> str:
    """What a value is relative to."""
    against = asked["against"]
    text = {"faster": f"as fast as {against}", "limit": f"of the limit: {against}", "memory": f"{against}",
            "later": f"more than {against}"}[asked["kind"]]
    return text if asked["of"] == OURS else f"{text} ({str(asked['of']).removeprefix(OURS + ', ')})"


def goal_text(asked: Entry) -> str:
    """The goal with its direction; "" where there is none."""
    if asked["goal"] is None:
        return ""
    return f"at {'least' if KINDS[asked['kind']].at_least else 'most'} {amount(asked['kind'], asked['goal'])}"


def sizes_text(row: Entry) -> str:
    """The sizes of a row, in words."""
    return ", ".join(f"{name} {value:,}" if isinstance(value, int) else f"{name} {value}"
                     for name, value in row["sizes"].items())


def machine_text(result: Entry) -> str:
    """What it was measured on, in a sentence."""
    m, v = result["machine"], result["versions"]
    caches = ", ".join(f"{name} {size}" for name, size in m["caches"].items())
    vectors = "with AVX-512" if m["avx512"] else "without AVX-512"
    used = ", ".join(f"{name} {version}" for name, version in v.items())
    return (f"{m['cpu']}, {m['cores']} cores, {vectors}" + (f", caches: {caches}" if caches else "") +
            f", {m['memory_gib']:g} GiB of memory, {m['system']}; {used}")


def verdicts(result: Entry) -> dict[str, int]:
    """How many goals were met, missed and not judged."""
    found = [asked["verdict"] for row in result["rows"] for asked in row["comparisons"] if asked["goal"] is not None]
    return {verdict: found.count(verdict) for verdict in ("met", "missed", "not judged")}


def notes(result: Entry) -> list[str]:
    """Notes of rows; why goals were not judged, or missed whatever was measured; notes of the run."""
    told = [f"{row['id']}: {row['note']}" for row in result["rows"] if row["note"]]
    reasons: dict[str, list[str]] = {}
    for row in result["rows"]:
        for asked in row["comparisons"]:
            if asked["goal"] is not None and asked["why"]:
                reasons.setdefault(f"{asked['verdict']}: {asked['why']}", []).append(row["id"])
    told += [f"{', '.join(dict.fromkeys(ids))} {reason}" for reason, ids in reasons.items()]
    return list(dict.fromkeys([*told, *result["notes"]]))


def time_text(seconds: float) -> str:
    """A time with the unit that fits it.

    >>> time_text(9.3e-07), time_text(0.0123), time_text(2.5)
    ('930 ns', '12.3 ms', '2.5 s')
    """
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
