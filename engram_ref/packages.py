"""Packages that may be absent or broken: importing one, or saying why that fails."""

import importlib
from types import ModuleType

from engram_ref.errors import InputError

ABSENT = "not installed"


def require(module: str, argument: str, otherwise: str = "") -> ModuleType:
    """Import a package or one of its modules.

    module      such as "numba" or "safetensors.numpy"
    argument    what needs it, for the error
    otherwise   what works without it
    raises      InputError: "not installed" only if there is no such package, else the error of its own import

    >>> require("math", "example").sqrt(4.0)
    2.0
    """
    try:
        return importlib.import_module(module)
    except Exception as error:
        raise unusable(error, module.partition(".")[0], argument, otherwise=otherwise) from error


def unusable(error: Exception, package: str, argument: str, install: str = "", otherwise: str = "") -> InputError:
    """The error to raise when importing a package raised `error`; `install` replaces the hint "pip install PACKAGE"."""
    why = fault_of(error, package)
    hints = [install or f"pip install {package}", otherwise] if why == ABSENT else [otherwise]
    return InputError(argument, f"the package {package}", why if why == ABSENT else f"one that {why}",
                      "; ".join(filter(None, hints)))


def fault(package: str) -> str:
    """Why a package cannot be imported, "not installed" or its own error in one line; "" if it can.

    >>> fault("math"), fault("no_such_package")
    ('', 'not installed')
    """
    try:
        importlib.import_module(package)
    except Exception as error:
        return fault_of(error, package)
    return ""


def fault_of(error: Exception, package: str) -> str:
    """What the error of an import says of the package; any kind may come: OSError, if a shared library is missing."""
    if isinstance(error, ModuleNotFoundError) and error.name == package:
        return ABSENT
    return " ".join(f"cannot be imported: {type(error).__name__}: {error}".split())
