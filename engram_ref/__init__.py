"""engram_ref: the reference implementation of Engram, conditional memory for language models.

Importing this loads nothing else, not even NumPy: each public name loads its own file when it is first used. So
the command line can handle Ctrl-C before anything slow is imported.
"""

import sys

TYPE_CHECKING = False           # type checkers take it for true; importing typing for it would take milliseconds
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

__version__ = "0.1.0"

__all__ = [
    "Addressing", "EngramConfig", "EngramState", "InputError", "ModelConfig", "Trace", "Vocabulary", "__version__",
    "engram", "model_preset", "model_presets", "preset", "presets", "residual", "start_state",
]

_HOMES = {
    "Addressing": "addressing", "EngramConfig": "config", "InputError": "errors", "ModelConfig": "model_config",
    "Trace": "trace", "Vocabulary": "text.vocabulary", "model_preset": "model_presets",
    "model_presets": "model_presets", "preset": "presets", "presets": "presets",
    **dict.fromkeys(("EngramState", "engram", "residual", "start_state"), "model.engram"),
}
"""Public name -> the file below this package that holds it."""


def __getattr__(name: str) -> object:
    """A public name, from its file; kept, so that it is looked up once."""
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module 'engram_ref' has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(f"engram_ref.{_HOMES[name]}"), name)
    return found


def __dir__() -> list[str]:
    """All public names, loaded or not."""
    return sorted({*globals(), *__all__})


class _Package(type(sys)):      # type: ignore[misc]
    """This package: `presets` and `model_presets` are functions in it, though files of these names hold them."""

    def __setattr__(self, name: str, value: object) -> None:
        """Importing a file binds its name here; a public function's name stays that function's."""
        if not (name in __all__ and isinstance(value, type(sys))):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
