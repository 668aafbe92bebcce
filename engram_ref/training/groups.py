"""Which optimiser updates which parameter: groups, derived from the declarations of a model's parameters.

    group                                 optimiser    learning rate    weight decay
    matrix                                Muon         1                yes
    vector, conv, embedding, output       Adam         1                yes
    table                                 lazy Adam    TABLE_RATE       no

Constants and statistics, such as a router's bias, belong to no group: see ops.bias_update. A row of a table is read
rarely, so it gets few steps; without decay, it keeps what it learned between them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from engram_ref.checks import check_kind
from engram_ref.errors import InputError, check_name
from engram_ref.model import declarations
from engram_ref.model.declarations import Parameter
from engram_ref.model_config import ModelConfig
from engram_ref.ops.namespace import NUMPY, Ops
from engram_ref.training.optimisers import Adam, Arrays, Muon, Optimiser

TABLE_RATE = 5.0                # learning rate of Engram's tables, relative to the others: paper, section 4.1


def names_by_group(declared: Iterable[Parameter]) -> dict[str, list[str]]:
    """Return group -> names of its parameters, without constants and statistics.

    The groups also serve as parameter groups of torch's optimisers.
    """
    groups: dict[str, list[str]] = {}
    for p in declared:
        if p.kind in ("weight", "table"):
            groups.setdefault(p.group, []).append(p.name)
    return groups


def paper_optimiser(config: ModelConfig, lr: float, weight_decay: float = 0.1,
                    matrices: Literal["muon", "adam"] = "muon", ops: Ops = NUMPY) -> "GroupedOptimiser":
    """Return the optimisers of the paper for a model.

    lr         base learning rate, the paper's is 4e-4
    matrices   the optimiser of matrices; at desk size, Adam learns faster
    source     Paper, section 4.1 and appendix A; DeepSeek-V4 for the groups of vectors
    """
    check_kind("config", config, ModelConfig)
    check_name("matrices", matrices, ("muon", "adam"))
    return optimiser_of(names_by_group(declarations.model(config)), lr, weight_decay, matrices, ops)


def optimiser_of(groups: Mapping[str, Sequence[str]], lr: float, weight_decay: float, matrices: str,
                 ops: Ops, table_rate: float = TABLE_RATE) -> "GroupedOptimiser":
    """Return the paper's optimisers for some groups; see paper_optimiser.

    table_rate   learning rate of tables, relative to lr
    """
    of_matrices = {"muon": Muon, "adam": Adam}[matrices](lr, weight_decay, ops=ops)
    others = [name for group in ("vector", "conv", "embedding", "output") for name in groups.get(group, ())]
    return GroupedOptimiser({
        "matrix": (of_matrices, groups["matrix"]), "vector": (Adam(lr, weight_decay, ops=ops), others),
        "table": (Adam(table_rate * lr, 0.0, ops=ops), groups.get("table", ()))})


class GroupedOptimiser:
    """Several optimisers that share one step.

    groups   name -> (optimiser, names of its parameters)
    """

    def __init__(self, groups: Mapping[str, tuple[Optimiser, Sequence[str]]]):
        self.optimisers = {group: optimiser for group, (optimiser, _) in groups.items()}
        self.group_of: dict[str, str] = {}
        for group, (_, names) in groups.items():
            for name in names:
                if name in self.group_of:
                    found = f"two, {self.group_of[name]} and {group}"
                    raise InputError(f"parameter {name}", "one group", found)
                self.group_of[name] = group

    def step(self, parameters: Arrays, gradients: Arrays, factor: float = 1.0) -> dict[str, Any]:
        """Return the parameters after one step of every optimiser; see Optimiser.step.

        raises   InputError, before any state changes, also for a gradient of a parameter that is in no group
        """
        for name in gradients:
            if name not in self.group_of:
                raise InputError(f"parameter {name}", f"a group, {' or '.join(self.optimisers)}", "none",
                                 "constants and statistics have no gradient")
        parts = {group: {name: g for name, g in gradients.items() if self.group_of[name] == group}
                 for group in self.optimisers}
        for group, optimiser in self.optimisers.items():
            optimiser.check(parameters, parts[group])
        for group, optimiser in self.optimisers.items():
            parameters = optimiser.apply(parameters, parts[group], factor)
        return dict(parameters)

    def arrays(self) -> dict[str, Any]:
        """The state of all optimisers: "matrix/momentum/wq.weight" and the like."""
        return {f"{group}/{key}": array for group, optimiser in self.optimisers.items()
                for key, array in optimiser.arrays().items()}

    def restore(self, arrays: Arrays) -> None:
        """Take over a state that `arrays` returned; raises InputError, as the optimisers do, without a change."""
        parts: dict[str, dict[str, Any]] = {group: {} for group in self.optimisers}
        for key, array in arrays.items():
            group, _, rest = key.partition("/")
            if self.group_of.get(rest.partition("/")[2]) != group:
                raise InputError(f"state {key}", "the state of a parameter in its group", "another name")
            parts[group][rest] = array
        restored = {group: optimiser.restored(parts[group]) for group, optimiser in self.optimisers.items()}
        for group, optimiser in self.optimisers.items():
            optimiser.counts, optimiser.state = restored[group]
