"""Doctests are collected from every module; those of a backend only where its package is installed."""

import importlib.util

NEEDS = {"numba": "numba", "torch": "torch", "torch/kernels": "triton"}

collect_ignore_glob = [f"engram_ref/backends/{folder}/*" for folder, package in NEEDS.items()
                       if importlib.util.find_spec(package) is None]
