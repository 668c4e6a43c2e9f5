"""Active acquisition: choose what to measure next while the posterior is sampled.

`loop.Active` is the algorithm, `run.Run` what it holds on the way, `result.Acquisition` what comes out; policies,
candidates and instruments are in `invdiff.policies`.
"""

from __future__ import annotations

from invdiff.samplers.active.loop import MODES, Active
from invdiff.samplers.active.result import Acquisition, Decision, load_order, save_order

__all__ = ["MODES", "Acquisition", "Active", "Decision", "load_order", "save_order"]
