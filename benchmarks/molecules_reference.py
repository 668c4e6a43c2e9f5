"""The free energy of alanine dipeptide along phi by well-tempered metadynamics: the reference of `molecule run`.

ff14SB with OBC2 solvent, 300 K, no constraints. Delta F is that of 0 < phi < 2.2 rad (the left-handed region) against
the rest; several independent runs, and within each the difference read from the bias all along the second half. The
standard error is that of the runs' means. Results are written after every run, and runs that are in the file already
are not repeated.

    python benchmarks/molecules_reference.py --json benchmarks/results/molecules_reference.json
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import record  # type: ignore[attr-defined,unused-ignore]
from invdiff.datasets.molecules.grid import free_energy_difference
from invdiff.energies.base import GAS_CONSTANT
from invdiff.energies.metadynamics import Variable, metadynamics
from invdiff.energies.molecules import alanine_dipeptide
from invdiff.operators.molecular import Torsion
