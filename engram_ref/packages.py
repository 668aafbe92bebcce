"""Optional packages: import one, or report why that fails; find a file that one contains."""

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

from engram_ref.errors import InputError

ABSENT = "not installed"


def require(module: str, argument: str, otherwise: str = "") -> ModuleType:
    """Import a package or one of its modules.

    module      such as "numba" or "safetensors.numpy"
    argument    argument or feature that needs the package, for the message
    otherwise   a further hint, for the message
    raises      InputError that states whether the package is missing or how its import failed

    >>> require("math", "example").sqrt(4.0)
    2.0
    """
    try:
        return importlib.import_module(module)
    except Exception as error:
        raise package_error(error, module.partition(".")[0], argument, otherwise=otherwise) from error


def package_error(error: Exception, package: str, argument: str, install: str = "", otherwise: str = "") -> InputError:
    """Return the error to raise for a failed import; `install` replaces the hint "pip install PACKAGE"."""
    why = failure_text(error, package)
    hints = [install or f"pip install {package}", otherwise] if why == ABSENT else [otherwise]
    return InputError(argument, f"an installed package {package}", "none" if why == ABSENT else f"one that {why}",
                      "; ".join(filter(None, hints)))


def packaged_file(module: str, file: str, package: str, argument: str, install: str) -> Path:
    """Return the path of a file next to a module, found without importing it; raise InputError if it is missing."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise InputError(argument, f"an installed package {package}", "none", install)
    return Path(spec.origin).with_name(file)


def import_failure(package: str) -> str:
    """Return the reason why a package cannot be imported, as one line, or "" if it can.

    >>> import_failure("math"), import_failure("no_such_package")
    ('', 'not installed')
    """
    try:
        importlib.import_module(package)
    except Exception as error:
        return failure_text(error, package)
    return ""


def failure_text(error: Exception, package: str) -> str:
    """Return the reason for a failed import. Any type of error may occur: a missing shared library raises OSError."""
    if isinstance(error, ModuleNotFoundError) and error.name == package:
        return ABSENT
    return " ".join(f"cannot be imported: {type(error).__name__}: {error}".split())
