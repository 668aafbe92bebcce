"""Ports with a known bug, as functions and streams that engram_ref.testing checks: the definition with one change."""

import numpy as np

from engram_ref import EngramState, Trace, engram, ops
from engram_ref.ops.namespace import NUMPY
from engram_ref.oracle.bugs import namespace_with, streams_with
from engram_ref.oracle.streams import STREAMS
from engram_ref.testing.checks import reduced


def rows_port(config, bug=None, namespace=NUMPY):
    """The rows of the first layer."""
    kinds = STREAMS if bug is None else streams_with(bug)
    addressing = kinds["addressing"](config, ops=namespace if bug is None else namespace_with(bug))
    return lambda ids, history: addressing.rows(ids, config.layer_ids[0], history)


def module_port(config, bug=None, namespace=NUMPY, traced=False):
    """The module of the first layer, as `check_engram` calls it."""
    config, namespace = reduced(config, config.layer_ids[0]), namespace if bug is None else namespace_with(bug)

    def port(parameters, hidden, rows, taps, dead):
        state, trace = None if taps is None else EngramState(taps), Trace() if traced else None
        Y = engram(parameters, hidden, rows, config, state=state, dead=dead, ops=namespace, trace=trace)
        if traced:
            return dict(trace.arrays)
        return Y if taps is None else (Y, state.taps)

    return port


def rows_stream(config, bug=None, namespace=NUMPY):
    """A function that starts a stream of rows."""
    kinds = STREAMS if bug is None else streams_with(bug)
    addressing = kinds["addressing"](config, ops=namespace if bug is None else namespace_with(bug))
    return lambda batch: kinds["rows"](addressing, config.layer_ids[0], batch)


def module_stream(config, parameters, bug=None, namespace=ops):
    """A function that starts a stream of the module."""
    kinds = STREAMS if bug is None else streams_with(bug)
    namespace = namespace if bug is None else namespace_with(bug)
    like = parameters["value_weight"]
    return lambda batch: kinds["module"](parameters, config, np.zeros((batch, 1, 1, 1), like.dtype), namespace)
