"""A benchmark result with invented numbers, for tests of reports."""

from engram_ref.bench.case import OURS, Case, Comparison, record

COMPARE = [Comparison("faster", "a rival", 3.0), Comparison("limit", "a wall", 0.8),
           Comparison("faster", "an absent rival", 2.0)]


def made_up(ours=(1.0, 1.1, 0.9)):
    """Return a result with two rows: one with goals for a rival and a limit, one without goals."""
    sizes = {"tokens": 4096, "preset": "none"}
    judged = Case("some work", sizes, 2, {"an absent rival": "needs patience"}, COMPARE, note="a fact")
    shown = Case("other work", {"tokens": 1}, 1, {}, [Comparison("limit", "a wall")])
    seconds = {OURS: list(ours), "a rival": [4.0, 4.4, 4.0], "a wall": [0.5, 0.66, 0.5]}
    return {
        "schema": 1, "date": "2000-01-02", "quick": False, "rounds": 7, "notes": ["a note of the run"],
        "machine": {"cpu": "a processor", "cores": 2, "avx512": True, "caches": {"L2": "1024K"}, "memory_gib": 8.0,
                    "system": "Linux"},
        "versions": {"python": "3.11", "numpy": "2.0"},
        "threading": {"threads": 2, "kernels": "threads", "blas": 2},
        "rows": [record("P1", judged, seconds, ""), record("P2", shown, {OURS: [1.0], "a wall": [0.5]}, "")],
    }
