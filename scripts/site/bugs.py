"""Print, as JSON, the tables of the page of the bug catalogue.

    python bugs.py    ->  {"bugs": "## Constants and addresses ...", "bugs left out": "| ... |"}
"""

import json

from introspect import table

from engram_ref.oracle.bugs import BUGS, LEFT_OUT, Bug, gradients, updates
from engram_ref.presets import GATES
from engram_ref.stages import BACKBONE_STAGES, STAGES

MODULE = [stage.name for stage in STAGES]
ROWS = MODULE.index("rows") + 1
CHAPTERS = {
    "Constants and addresses": ["canonical_ids", "primes", "multipliers", *MODULE[1:ROWS], "history"],
    "The module": [*MODULE[ROWS:], "taps"],
    "The backbone": [stage.name for stage in BACKBONE_STAGES],
    "Gradients": [target for changes in gradients.CHANGES.values() for target in changes],
    "Optimisers": [target for changes in updates.CHANGES.values() for target in changes],
}
"""Heading -> the stages below it, in the order of computation; the ops of gradients and updates."""


def catalogue() -> str:
    """One section per chapter, one table per stage, one row per bug."""
    parts = []
    for heading, stages in CHAPTERS.items():
        parts.append(f"## {heading}")
        for stage in dict.fromkeys(stages):
            rows = [row(bug) for bug in BUGS.values() if bug.stage == stage]
            if rows:
                parts += [f"### First wrong stage: `{stage}`",
                          table(["bug", "symptom", "cause", "seen in", "how to see it"], rows)]
    return "\n\n".join(parts)


def row(bug: Bug) -> list[str]:
    """The cells of one bug, with an anchor of its name."""
    some = bug.dialects and len(bug.dialects) < len(GATES)
    name = f'<a id="{bug.name}"></a>`{bug.name}`' + (f"<br>{', '.join(bug.dialects)}" if some else "")
    return [name, *(text.replace("|", "\\|").replace("*", "\\*")
                    for text in (bug.symptom, bug.cause, bug.seen, bug.look))]


def left_out() -> str:
    """The defects that have no entry."""
    return table(["defect", "reason"], [[f"`{name}`", reason] for name, reason in LEFT_OUT.items()])


if __name__ == "__main__":
    print(json.dumps({"bugs": catalogue(), "bugs left out": left_out()}))
