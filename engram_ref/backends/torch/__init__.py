"""The torch backend: the ops of engram_ref.ops with the same signatures, for tensors on any device.

See engram_ref.ops for formulas and shapes; docstrings here state only the differences. Ops that work on tensors
unchanged are inherited. Functions that read values synchronise with the device; their docstrings say so. This module
exports the names of its namespace, `NAMESPACE`.
"""

from engram_ref.packages import package_error

try:
    import torch  # noqa: F401
except Exception as error:
    raise package_error(error, "torch", "backend torch", "pip install 'engram_ref[torch]'",
                   "the NumPy backend works without it") from error

from engram_ref.backends.torch.namespace import FUSED as NAMESPACE

__all__ = ["tensors", *NAMESPACE.names()]
globals().update({name: getattr(NAMESPACE, name) for name in __all__})
