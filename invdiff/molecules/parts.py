"""The parts of a bridge sampler from a configuration: chart, networks, schedule, bias, trainer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from invdiff.bridges.asbs import Stage, Trainer, Training
from invdiff.bridges.bias import Axis, Bias
from invdiff.bridges.control import Paced
from invdiff.bridges.internal_coordinates import Chart, ChartEnergy, ChartVariable
from invdiff.bridges.restraints import FlatBottom
from invdiff.bridges.sde import Constant, Edm, Geometric, Schedule
from invdiff.bridges.source import GaussianSource
from invdiff.bridges.target import Target
from invdiff.energies.base import GAS_CONSTANT
from invdiff.errors import InputError
from invdiff.molecules.config import MoleculeConfig, ScheduleConfig
from invdiff.molecules.seeding import start_bias
from invdiff.molecules.systems import Case
from invdiff.networks.equivariant import EquivariantField
from invdiff.networks.internal import InternalMLP
from invdiff.random import generator

__all__ = ["check", "make_bias", "make_chart", "make_trainer"]


def check(case: Case) -> None:
    """Build every part once, so that what does not fit is said before anything is run. Raises InputError."""
    assert case.target.variable is not None
    make_bias(case.config, case.target.variable.period)
    chart = make_chart(case, case.x[None].repeat(2, 1, 1))
    _network(case, case.target.shape if chart is None else (chart.encode(case.x[None]).shape[1],))


def make_bias(config: MoleculeConfig, period: Sequence[float | None]) -> Bias | None:
    """Return the bias that a run begins with; axes are periodic where their variables are."""
    if config.bias is None:
        return None
    axes = []
    for entry, p in zip(config.bias.axes, period, strict=True):
        low, high = entry.low, entry.high
        if p is not None:
            if max(abs(low + p / 2), abs(high - p / 2)) > 1e-3 * p:
                raise InputError(
                    f"bias.axes: from {low} to {high}; the values of its variable run from {-p / 2:.6g} to {p / 2:.6g},"
                    " and a periodic axis covers all"
                )
            low, high = -p / 2, p / 2
        axes.append(Axis(low, high, entry.points, entry.width, p is not None))
    bias = Bias(axes, config.bias.gamma, config.bias.height)
    if config.bias.start is not None:
        start_bias(bias, config.bias.start, 1.0 if config.temperature is None else GAS_CONSTANT * config.temperature)
    return bias


def make_chart(case: Case, data: Tensor) -> Chart | None:
    """Return the internal coordinates that a configuration asks for, fitted to data; None for Cartesian ones."""
    if case.config.coordinates == "cartesian":
        return None
    if case.structure is None or not case.structure.bonds:
        raise InputError("coordinates: internal needs a molecule whose bonds are known; use cartesian")
    windows = {tuple(w.atoms): w.low for w in case.config.windows}
    return Chart(data, case.structure.bonds, case.structure.symbols, windows)


def make_trainer(case: Case, chart: Chart | None, data: Tensor, bias: Bias | None, seed: int) -> Trainer:
    """Return an untrained sampler of a case; networks and random numbers come from the seed."""
    config = case.config
    target = case.target if chart is None else charted(case.target, chart)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        control = _network(case, target.shape)
        corrector = None if config.source == 0 else _network(case, target.shape)
    schedule = _schedule(config.schedule)
    if config.network.finest is not None:
        control = Paced(control, schedule, config.network.finest)
        corrector = None if corrector is None else Paced(corrector, schedule, schedule.total**0.5)
    source = GaussianSource(target.shape, config.source, mean_free=target.mean_free)
    options = config.training.model_dump()
    options["stages"] = tuple(Stage(**stage) for stage in options["stages"])
    start = data if chart is None else chart.encode(data)
    if target.mean_free:
        start = start - start.mean(1, keepdim=True)
    return Trainer(
        target,
        source,
        schedule,
        control,
        corrector,
        Training(**options),
        generator(seed, 1),
        bias,
        start if config.training.warm else None,
    )


def charted(target: Target, chart: Chart) -> Target:
    """Return a target as one of internal coordinates."""
    assert target.variable is not None
    restraints = [
        FlatBottom(ChartVariable(r.variable, chart), r.low, r.high, r.stiffness, r.name) for r in target.restraints
    ]
    energy = ChartEnergy(target.energy, chart, target.kT)
    return Target(
        energy, target.kT, ChartVariable(target.variable, chart), restraints, False, target.precision, target.zero,
        counted_by=target,
    )  # fmt: skip


def _schedule(entry: ScheduleConfig) -> Schedule:
    if entry.kind == "constant":
        return Constant(entry.high)
    return Edm(entry.low, entry.high, entry.rho) if entry.kind == "edm" else Geometric(entry.low, entry.high)


def _network(case: Case, shape: tuple[int, ...]) -> nn.Module:
    entry = case.config.network
    if entry.kind == "mlp":
        if len(shape) != 1:
            raise InputError("network.kind mlp is for vectors and internal coordinates; use equivariant")
        return InternalMLP(shape[0], entry.width, entry.depth, entry.scale, entry.gain)
    if len(shape) != 2:
        raise InputError("network.kind equivariant is for particles; use mlp")
    if case.structure is None:
        kinds = [0] * shape[0]
    elif entry.exchangeable:
        elements = sorted(set(case.structure.symbols))
        kinds = [elements.index(s) for s in case.structure.symbols]
    else:
        kinds = list(range(shape[0]))
    return EquivariantField(
        kinds, shape[1], entry.width, entry.radial, entry.depth, entry.reach, entry.gain, case.structure is not None
    )
