"""Parameters of whole models: initialise, check, save, load, and import from other implementations.

tree.py lists the names of a whole model, engram_parameters.py those of one Engram module.
"""

from engram_ref.model.demo import from_engram_demo
from engram_ref.model.hf import from_hf_deepseek_v3
from engram_ref.model.tree import check, initialise, load, save, shapes

__all__ = ["check", "from_engram_demo", "from_hf_deepseek_v3", "initialise", "load", "save", "shapes"]
