"""What other programs read: topology and trajectory, and the bias as PLUMED's files, so that metadynamics can go on."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from invdiff.bridges.bias import Bias
from invdiff.datasets.molecules.grid import Grid
from invdiff.datasets.molecules.plumed import Hills, write_colvar, write_fes, write_hills
from invdiff.datasets.molecules.trajectory import FARTHEST, write_trajectory
from invdiff.molecules.keeping import SeedRun
from invdiff.molecules.seeding import write_seeds
from invdiff.molecules.systems import Case

__all__ = ["names", "write_molecular"]


def names(case: Case) -> list[str]:
    """One word per collective variable; numbered where a kind comes twice."""
    kinds = [entry.kind for entry in case.config.variables]
    return [k if kinds.count(k) == 1 else f"{k}{i + 1}" for i, k in enumerate(kinds)]


def write_molecular(case: Case, runs: list[SeedRun], samples: dict[str, Tensor], folder: Path) -> None:
    """Write topology.pdb, samples.xtc or .dcd, COLVAR; and per seed HILLS and fes.dat, in kJ/mol, nm and rad.

    Frames of chains that blew up are left out; where none is left, so is the trajectory.
    """
    near = samples["positions"].abs().flatten(1).amax(1) < FARTHEST
    samples = {name: value[near] for name, value in samples.items()}
    if bool(near.any()):
        write_trajectory(folder, case.structure, samples["positions"], case.config.trajectory)
    words, kT = names(case), case.target.kT  # noqa: N806 - the field's name
    columns = {word: samples["cv"][:, i] for i, word in enumerate(words)}
    weight = samples["log_weight"]
    columns |= {"bias": kT * samples["bias"], "logweight": weight - torch.logsumexp(weight, 0)}
    write_colvar(folder / "COLVAR", columns)
    for run in runs:
        if run.bias is None:
            continue
        inner = folder / f"seed-{run.seed}"
        if run.bias.of_hills and run.bias.hills:
            write_hills(inner / "HILLS", _hills(run.bias, words, kT))
        axes = run.bias.axes
        grid = Grid(
            kT * run.bias.free_energy(),
            tuple(a.low for a in axes),
            tuple(a.high for a in axes),
            tuple(a.periodic for a in axes),
            tuple(words),
        )
        write_fes(inner / "fes.dat", grid)
        write_seeds(inner, run.bias, case.target.variable, words, kT, float(case.config.temperature or 0))


def _hills(bias: Bias, words: list[str], kT: float) -> Hills:  # noqa: N803 - the field's name
    """Every hill of a bias; the time is the number of its deposit."""
    centres = torch.cat([c for c, _ in bias.hills])
    heights = torch.cat([h for _, h in bias.hills])
    times = torch.cat([torch.full((len(h),), float(n)) for n, (_, h) in enumerate(bias.hills, 1)])
    widths = torch.tensor([a.width for a in bias.axes], dtype=torch.float64).expand_as(centres)
    period = tuple((a.low, a.high) if a.periodic else None for a in bias.axes)
    return Hills(tuple(words), centres, widths, kT * heights, times, bias.gamma, period)
