"""engram_ref: the reference implementation of Engram, conditional memory for language models.

Importing this loads NumPy and nothing heavier.
"""

from engram_ref.addressing import Addressing
from engram_ref.config import EngramConfig
from engram_ref.errors import InputError
from engram_ref.model.engram import EngramState, engram, residual, start_state
from engram_ref.model_config import ModelConfig
from engram_ref.model_presets import model_preset, model_presets
from engram_ref.presets import preset, presets
from engram_ref.text.vocabulary import Vocabulary
from engram_ref.trace import Trace

__version__ = "0.1.0"

__all__ = [
    "Addressing", "EngramConfig", "EngramState", "InputError", "ModelConfig", "Trace", "Vocabulary", "__version__",
    "engram", "model_preset", "model_presets", "preset", "presets", "residual", "start_state",
]
