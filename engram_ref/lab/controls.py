"""Controls: models that differ from the one with Engram in one property only."""

from dataclasses import replace
from itertools import count

import numpy as np

from engram_ref.addressing import Addressing
from engram_ref.errors import InputError
from engram_ref.model.accounting import summarise
from engram_ref.model_config import HyperConfig, ModelConfig
from engram_ref.ops.namespace import Ops
from engram_ref.ops.record import Record
from engram_ref.training.presets import TrainingConfig, without_engram


class OneRow(Addressing):
    """Addresses of a table with a single row per column: the memory does not depend on the text."""

    def unchecked_rows(self, ids: np.ndarray, history: np.ndarray, layer_id: int, ops: Ops, record: Record,
                       flat: bool = False) -> np.ndarray:
        """Return row 0 for every n-gram; see Addressing."""
        return 0 * super().unchecked_rows(ids, history, layer_id, ops, record, flat)


class OtherText(Addressing):
    """Shuffled addresses: every text reads the rows of the next text of the batch, at the same positions.

    The rows that a batch reads are the same, so the load of the tables is too, but they say nothing about the text that
    reads them. A shuffle within a text would not do: some positions would read the n-gram that ends with the token they
    are to predict.
    """

    def unchecked_rows(self, ids: np.ndarray, history: np.ndarray, layer_id: int, ops: Ops, record: Record,
                       flat: bool = False) -> np.ndarray:
        """Return the rows of the next text; see Addressing.

        raises   InputError for a batch of one text
        """
        if len(ids) < 2:
            raise InputError("ids", "at least two texts", f"{len(ids)}", "a text reads the rows of another one")
        following = [*range(1, len(ids)), 0]
        return super().unchecked_rows(ids[following], history[following], layer_id, ops, record, flat)


def with_active_width(config: TrainingConfig) -> TrainingConfig:
    """Return the control without Engram that has as many parameters as the model with it, and as many active ones.

    Its experts are wider and fewer: the smallest width with which the active parameters are not less than those of the
    given settings, where the number of experts makes the total as similar as possible. Active parameters are those of
    `accounting.summarise`: without the vocabulary matrices and the tables, of which a token reads a few rows.
    """
    wanted, plain = summarise(config.model), without_engram(config)
    experts = plain.model.backbone.experts

    def sized(width: int, number: int) -> ModelConfig:
        sizes = replace(experts, moe_intermediate_size=width, n_routed_experts=number)
        backbone = replace(plain.model.backbone, experts=sizes)
        return replace(plain.model, name=f"{plain.model.name}-wide", backbone=backbone)

    for width in count(experts.moe_intermediate_size):
        numbers = range(experts.num_experts_per_tok + 1, experts.n_routed_experts + 1)
        model = min((sized(width, n) for n in numbers), key=lambda m: abs(summarise(m).total - wanted.total))
        if summarise(model).active >= wanted.active:
            return replace(plain, name=f"{plain.name}-wide", model=model)


def with_branches(config: TrainingConfig, branches: int) -> TrainingConfig:
    """Return the same settings with hyper-connections of several branches."""
    model = config.model
    engram = None if model.engram is None else replace(model.engram, n_branches=branches)
    backbone = replace(model.backbone, hyper=HyperConfig(branches))
    return replace(config, name=f"{config.name}-{branches}-branches",
                   model=replace(model, name=f"{model.name}-{branches}-branches", backbone=backbone, engram=engram))
