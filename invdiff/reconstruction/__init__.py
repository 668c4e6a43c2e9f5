"""From a file to a reconstruction, and its judgement: what ``invdiff reconstruct`` does.

=================  =========================================================================
`read_case`        a file to what is reconstructed from (``inputs``)
`Settings`         how to reconstruct
`reconstruct`      run a sampler or a classical method, others beside it; score and judge
`Reconstruction`   what it made
`write`            results to files, with their provenance (``outputs``)
=================  =========================================================================

``draw`` is where samplers are run, ``texture`` what their prior is given for them, ``classical`` what they are compared
with, ``scores`` the comparison.
"""

from __future__ import annotations

from invdiff.reconstruction.held_out import HeldOut
from invdiff.reconstruction.inputs import read_case
from invdiff.reconstruction.outputs import check_place, write
from invdiff.reconstruction.result import Reconstruction
from invdiff.reconstruction.run import reconstruct
from invdiff.reconstruction.settings import Settings

__all__ = ["HeldOut", "Reconstruction", "Settings", "check_place", "read_case", "reconstruct", "write"]
