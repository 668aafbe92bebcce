"""A benchmark result with made-up numbers."""

from engram_ref.bench.case import OURS, Case, Comparison, record

COMPARE = [Comparison("speedup", "a baseline", 3.0), Comparison("limit", "a wall", 0.8),
           Comparison("speedup", "an absent baseline", 2.0)]


def made_up(ours=(1.0, 1.1, 0.9)):
    """Two rows: one has a baseline, a limit and goals, the other has no goal."""
    sizes = {"tokens": 4096, "preset": "none"}
    judged = Case("some work", sizes, 2, {"an absent baseline": "needs patience"}, COMPARE, note="a fact")
    shown = Case("other work", {"tokens": 1}, 1, {}, [Comparison("limit", "a wall")])
    seconds = {OURS: list(ours), "a baseline": [4.0, 4.4, 4.0], "a wall": [0.5, 0.66, 0.5]}
    return {
        "schema": 2, "date": "2000-01-02", "quick": False, "rounds": 7, "notes": ["a note of the run"],
        "machine": {"cpu": "a processor", "cores": 2, "avx512": True, "caches": {"L2": "1024K"}, "memory_gib": 8.0,
                    "system": "Linux"},
        "versions": {"python": "3.11", "numpy": "2.0"},
        "threading": {"threads": 2, "kernels": "threads", "blas": 2},
        "rows": [record("first", judged, seconds, ""), record("second", shown, {OURS: [1.0], "a wall": [0.5]}, "")],
    }
