"""Diagnosis: emulated ports with known bugs, pairs of bugs, unknown mistakes and correct ports."""

import numpy as np
import pytest

from engram_ref.oracle.bugs import BUGS
from engram_ref.oracle.check import diagnose as module
from engram_ref.oracle.check.diagnose import diagnose
from engram_ref.oracle.check.judge import judge
from engram_ref.oracle.oracle_kit import small_kit
