"""Runs in different frozen biases joined by MBAR: against quadrature, and where own weights side by side are wrong."""

import math
import sys

import pytest
import torch

from invdiff.bridges.bias import Axis, Bias
from invdiff.bridges.refine import advance, begin, walk
from invdiff.bridges.target import Target
from invdiff.energies.analytic import Coordinates, DoubleWell
from invdiff.metrics.free_energy import pmf_difference, pmf_of_samples, quadrature
from invdiff.molecules.joined import join
from invdiff.molecules.keeping import SeedRun

A, B = [(None, 0.0)], [(0.0, None)]
ENERGY = DoubleWell(barrier=5.0)


def run(seed: int, fill: float, constant: float, tilt: float) -> SeedRun:
    """Chains in a frozen bias that fills the wells in part, is off by a tilt, and has a constant of its own."""
    bias, rng = Bias([Axis(-4.0, 4.0, 161, 0.6)], 5.0, 1.0), torch.Generator().manual_seed(seed)
    s = bias.axes[0].grid()
    bias.values = -fill * (5.0 * (s**2 / 4 - 1) ** 2 + 0.75 * s).clamp(max=9) + tilt * s + constant
    target = Target(ENERGY, variable=Coordinates((0,)), precision=torch.float32)
    x = torch.tensor([[-2.0, 1.0], [2.0, 1.0]]).repeat(100, 1)
    now = advance(target, bias, begin(target, x, 0.7, rng), 150, rng, adapt=True)
    records = [r for _, r in walk(target, bias, now, 800, rng, every=5)]
    parts = {name: torch.stack([getattr(r, name) for r in records], 1) for name in ("s", "u", "v")}
    return SeedRun(seed, bias, {}, parts)


@pytest.fixture(scope="module")
def runs() -> list[SeedRun]:
    return [run(0, 0.9, 0.0, -0.7), run(1, 0.6, 7.0, 0.5)]


def test_joined_runs_agree_with_quadrature(runs: list[SeedRun]) -> None:
    pytest.importorskip("pymbar")
    exact = quadrature(ENERGY.potential, ENERGY.limits, A, B, variable=Coordinates((0,)).forward)
    joined = join(runs, A, B)
    assert joined.method == "mbar" and 0.01 < joined.stderr < 0.12
    assert joined.delta_f == pytest.approx(exact, abs=3.5 * joined.stderr)
    edges = torch.linspace(-3, 3, 25, dtype=torch.float64)
    x = torch.stack(torch.meshgrid(*[torch.linspace(-5, 5, 801, dtype=torch.float64)] * 2, indexing="ij"), -1)
    x = x.reshape(-1, 2)
    truth = pmf_of_samples(x[:, :1], -ENERGY.potential(x), [edges])
    s = torch.cat([r.chains["s"] for r in runs])
    found = pmf_of_samples(s, torch.cat(joined.log_weights), [edges])
    assert pmf_difference(found, truth) < 0.1
    # A constant added to one bias changes nothing.
    assert runs[1].bias is not None
    runs[1].bias.values += 3.0
    assert join(runs, A, B).delta_f == pytest.approx(joined.delta_f, abs=1e-6)
    runs[1].bias.values -= 3.0


def test_one_run_is_left_alone_and_pymbar_may_be_missing(runs: list[SeedRun], monkeypatch: pytest.MonkeyPatch) -> None:
    alone = join(runs[:1], A, B)
    assert alone.method == "one run" and torch.equal(alone.log_weights[0], runs[0].chains["v"].double())
    monkeypatch.setitem(sys.modules, "pymbar", None)
    apart = join(runs, A, B)
    assert apart.method == "each run by itself" and math.isnan(apart.delta_f)
    assert [float(w.logsumexp((0, 1))) for w in apart.log_weights] == pytest.approx([0, 0], abs=1e-9)
