"""The definition's twin in PyTorch: the same ops with the same signatures, on tensors of any device.

Formulas and shapes stand in engram_ref.ops; a docstring here says only what differs. What does the same to tensors as
to arrays, and what touches no data, is taken over from there. Functions that look at values, and so wait for the
device, say so; no other does. The names of this module are those of its namespace, `NAMESPACE`.
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
