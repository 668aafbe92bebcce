"""engram_ref: the reference implementation of Engram, conditional memory for language models.

Importing this package loads nothing else, not even NumPy; each public name loads its module on first use. The command
line can therefore handle Ctrl-C before any slow import.
"""

import sys

TYPE_CHECKING = False           # type checkers assume True; importing typing for it would take milliseconds
if TYPE_CHECKING:
    from engram_ref.addressing import Addressing
    from engram_ref.config import EngramConfig
    from engram_ref.errors import InputError
    from engram_ref.model.engram import EngramState, engram, residual, start_state
    from engram_ref.model_config import ModelConfig
    from engram_ref.model_presets import model_preset, model_presets
    from engram_ref.presets import preset, presets
    from engram_ref.text.vocabulary import Vocabulary
    from engram_ref.trace import Trace
    from engram_ref.training.checkpoint import load_trained

__version__ = "0.1.0"

__all__ = [
    "Addressing", "EngramConfig", "EngramState", "InputError", "ModelConfig", "Trace", "Vocabulary", "__version__",
    "engram", "load_trained", "model_preset", "model_presets", "preset", "presets", "residual", "start_state",
]

_MODULES = {
    "Addressing": "addressing", "EngramConfig": "config", "InputError": "errors", "ModelConfig": "model_config",
    "Trace": "trace", "Vocabulary": "text.vocabulary", "model_preset": "model_presets",
    "load_trained": "training.checkpoint", "model_presets": "model_presets", "preset": "presets", "presets": "presets",
    **dict.fromkeys(("EngramState", "engram", "residual", "start_state"), "model.engram"),
}
"""Public name -> the module of this package that defines it."""


def __getattr__(name: str) -> object:
    """Import a public name from its module on first use, and keep it."""
    import importlib

    if name not in _MODULES:
        raise AttributeError(f"module 'engram_ref' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"engram_ref.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    """List all public names, loaded or not."""
    return sorted({*globals(), *__all__})


class _Package(type(sys)):      # type: ignore[misc]  # importing types takes milliseconds
    """This package. `presets` and `model_presets` stay functions although modules of the same names define them."""

    def __setattr__(self, name: str, value: object) -> None:
        """Do not let the import of a submodule replace the public function of the same name."""
        if not (name in __all__ and isinstance(value, type(sys))):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
