"""From a ground truth to a measurement of it: what ``invdiff simulate`` does.

=============  ======================================================================
`Case`         a measurement and, where it is known, what it was made from
`MRIScan`      options of a simulated magnetic-resonance acquisition
`CTScan`       options of a simulated tomography
`simulate`     a `Volume` and such options give a `Case`
=============  ======================================================================
"""

from __future__ import annotations

from invdiff.datasets.volume import Volume
from invdiff.simulation.case import Case
from invdiff.simulation.ct import CTScan, simulate_ct
from invdiff.simulation.mri import MRIScan, bright, simulate_mri

__all__ = ["CTScan", "Case", "MRIScan", "simulate"]


def simulate(truth: Volume, scan: MRIScan | CTScan, slices: int | list[int] | None = None, seed: int = 0) -> Case:
    """Simulate a measurement of a volume, as one problem a slice or as a whole.

    Args:
        truth: what is imaged.
        scan: how.
        slices: the number of one slice; of several, evenly spaced; all if None.
        seed: of coils, masks and noise. Slice k has the same whatever others are simulated beside it.

    Raises:
        InputError: an option is out of range, or does not fit the truth.
    """
    chosen = [slices] if isinstance(slices, int) else list(range(len(truth.values))) if slices is None else slices
    part, several = truth.take(chosen), not isinstance(slices, int)
    if isinstance(scan, MRIScan):
        return simulate_mri(part, scan, chosen, several, seed, bright(truth))
    return simulate_ct(part, scan, chosen, several, seed)
