"""The results of an experiment as plain data, for tables and figures."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engram_ref.lab.runs import Experiment, by_seed, read_all
from engram_ref.lab.verdicts import RULE, judge_all


def summary(experiment: Experiment, results: Path) -> dict[str, Any]:
    """Return what pages show; it needs no backend and no corpus.

    rule       how verdicts are reached
    planned    number of runs
    commits    commits of the criteria, as stated by the results; more than one is a reason for doubt
    criteria   per criterion: its texts, the differences of all seeds, mean, interval and verdict
    curves     name of a run without the seed -> measurement, such as "answers.fact" -> {"steps": [...],
               "values": [[...] per seed]}
    """
    found = read_all(experiment, results)
    groups = by_seed(found)
    verdicts = judge_all(experiment.criteria, groups)
    keys = dict.fromkeys(run.key for run in experiment.runs)
    criteria = [{name: value for name, value in vars(c).items() if name != "difference"} | asdict(verdicts[c.name])
                for c in experiment.criteria]
    return {"rule": RULE, "planned": len(experiment.runs), "finished": len(found),
            "commits": sorted({result["criteria"] for result in found}), "criteria": criteria,
            "curves": {key: curves([runs[key] for runs in groups if key in runs]) for key in keys}}


def curves(results: list[Mapping[str, Any]]) -> dict[str, dict[str, list]]:
    """Return measurement -> its steps, and its values for each of these runs; steps without it are left out."""
    tables = [[(e["step"], flat(e)) for e in result["evaluations"]] for result in results]
    names = dict.fromkeys(name for table in tables for _, values in table for name in values if name != "step")
    return {name: {"steps": [step for step, values in tables[0] if name in values],
                   "values": [[values[name] for _, values in table if name in values] for table in tables]}
            for name in names}


def flat(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Return the values of a nested dictionary, with their paths joined by dots.

    >>> flat({"a": 1, "b": {"c": 2}})
    {'a': 1, 'b.c': 2}
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{path}{name}.") if isinstance(value, Mapping) else {f"{path}{name}": value}
    return found
