"""Test a port in Python: check it against the definition, on random inputs, at the precision of its own answers.

    check_rows(port, "deepseek-v4.1-flash")         # rows of one layer
    check_engram(port, "demo")                      # the module
    check_streaming(make_stream, "demo")            # the state between calls; prints the shortest failing schedule
    first_divergence("numpy", "torch", inputs)      # first stage at which two models differ
    for each in port_cases("gate"): each.check(port)            # cases of a kit, or golden vectors

A check raises AssertionError that says what differs, where, the worst element, and which known bug gives the same
answers. Ports take NumPy arrays, or the result of the argument `to`; they return arrays of any library that supports
`__array__` or `__dlpack__`. `random_config(rng)` draws a configuration. engram_ref/pytest_plugin.py is for pytest.
"""

from engram_ref.testing.answers import PortCase, port_cases
from engram_ref.testing.checks import check_engram, check_rows
from engram_ref.testing.divergence import Divergence, first_divergence
from engram_ref.testing.draw import random_config
from engram_ref.testing.streaming import check_streaming

__all__ = ["Divergence", "PortCase", "check_engram", "check_rows", "check_streaming", "first_divergence",
           "port_cases", "random_config"]
