"""Parameters of whole models: made, checked, saved, loaded, and read from other people's checkpoints.

The tree of names stands in tree.py, that of one Engram module in engram_parameters.py.
"""

from engram_ref.model.demo import from_engram_demo
from engram_ref.model.hf import from_hf_deepseek_v3
from engram_ref.model.tree import check, initialise, load, save, shapes

__all__ = ["check", "from_engram_demo", "from_hf_deepseek_v3", "initialise", "load", "save", "shapes"]
