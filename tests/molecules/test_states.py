"""The two states of a run: folded onto the circle, apart from each other; and what is known of them exactly."""

import copy
import math
from typing import Any

import pytest
import torch

from invdiff.errors import InputError
from invdiff.metrics.free_energy import inside, quadrature
from invdiff.molecules.config import MoleculeConfig, StatesConfig
from invdiff.molecules.parts import check
from invdiff.molecules.states import folded
from invdiff.molecules.systems import build

PI = math.pi
ANALYTIC: dict[str, Any] = {
    "name": "tiny",
    "system": {"kind": "double_well"},
    "variables": [{"kind": "coordinate", "index": 0}],
    "states": {"a": [[None, 0.0]], "b": [[0.0, None]]},
    "start": {"x": [-2.0, 1.0]},
    "training": {"stages": [{"adjoint": 1}]},
}


def config(**changes: Any) -> MoleculeConfig:
    return MoleculeConfig.model_validate(copy.deepcopy(ANALYTIC) | changes)


@pytest.mark.parametrize(
    "interval", [(3.4, 5.2), (2.2, 4.0), (-0.5, 0.5), (-7.0, -6.0), (3.0, 3.2), (-PI, 0.0), (0.0, PI)]
)
def test_an_interval_of_an_angle_means_the_same_wherever_it_is_written(interval: tuple[float, float]) -> None:
    other = (
        (interval[0] + 1.0, interval[0] + 1.0 + 1e-3)
        if interval[1] - interval[0] < 1
        else (interval[1] + 0.1, interval[1] + 0.2)
    )
    (found,) = folded(StatesConfig(a=[interval], b=[other]), [2 * PI]).a
    s = torch.linspace(-PI + 1e-3, PI - 1e-3, 997, dtype=torch.float64)[:, None]
    low, high = interval
    expected = torch.stack(
        [(s[:, 0] + 2 * PI * k >= low) & (s[:, 0] + 2 * PI * k < high) for k in (-2, -1, 0, 1, 2)]
    ).any(0)
    assert torch.equal(inside(s, [found]), expected)


@pytest.mark.parametrize("interval", [(0.0, 2 * PI), (0.0, 7.0), (-PI, PI)])
def test_an_interval_of_a_whole_turn_is_all_of_the_circle(interval: tuple[float, float]) -> None:
    states = StatesConfig(a=[interval, (0.0, 1.0)], b=[(0.0, 1.0), (1.0, 2.0)])
    (found, _) = folded(states, [2 * PI, None]).a
    s = torch.linspace(-PI, PI - 1e-3, 97, dtype=torch.float64)[:, None]
    assert bool(inside(s, [found]).all())


def test_states_that_say_nothing_are_refused() -> None:
    for a, b, period, words in (
        ([(2.0, 0.0)], [(3.0, 4.0)], None, "2.0 is not below 0.0"),
        ([(0.0, 2.0)], [(1.0, 3.0)], None, "overlap"),
        ([(None, 1.0)], [(None, 0.0)], None, "overlap"),
        ([(3.0, 4.0)], [(-3.0, -2.5)], 2 * PI, "overlap"),  # 4 is -2.28
        ([(3.0, 3.3)], [(3.05, 3.9)], 2 * PI, "overlap"),  # only about the seam
    ):
        with pytest.raises(InputError, match=words):
            folded(StatesConfig(a=a, b=b), [period])
    apart = StatesConfig(a=[(0.0, 2.0), (0.0, 1.0)], b=[(1.0, 3.0), (1.0, 2.0)])  # by the second variable
    assert folded(apart, [None, None]) == apart


def test_a_wall_is_part_of_the_exact_figure() -> None:
    wall = {"name": "wall", "variable": {"kind": "coordinate", "index": 0}, "high": 1.0, "stiffness": 100.0}
    case = build(config(restraints=[wall]))
    energy: Any = case.target.energy

    def walled(x: torch.Tensor) -> torch.Tensor:
        return energy.potential(x) + 50 * (x[:, 0] - 1).clamp_min(0) ** 2

    exact = quadrature(walled, [(-8, 8), (-8, 12)], [(None, 0.0)], [(0.0, None)], 1600, lambda x: x[:, :1])
    assert case.exact() == pytest.approx(exact, abs=2e-3) and exact > build(config()).exact() + 4  # type: ignore[operator]


def test_flat_wells_need_a_wider_box() -> None:
    case = build(config(system={"kind": "double_well", "options": {"barrier": 0.05, "tilt": 0.01}}))
    energy: Any = case.target.energy
    wide = quadrature(energy.potential, [(-20, 20), (-40, 45)], [(None, 0.0)], [(0.0, None)], 1600, lambda x: x[:, :1])
    assert case.exact() == pytest.approx(wide, abs=1e-4)


START = {"x": [0.0, 0.0], "steps": 50, "skip": 50}


def test_a_start_that_no_dynamics_need_is_not_looked_at() -> None:
    assert config(start=START).start.skip == 50


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seeds": [0, 0]}, "same seed twice"),
        ({"start": START, "training": ANALYTIC["training"] | {"warm": 1}}, "leaves nothing"),
        ({"refine": {"steps": 5, "every": 5, "keep": 5}}, "twice refine.every"),
        ({"compare": {"metadynamics": {"steps": 1000}}}, "needs a molecule and a bias"),
    ],
)
def test_options_that_leave_nothing_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        config(**changes)


def test_what_does_not_fit_a_molecule_is_refused() -> None:
    torsion = {"kind": "torsion", "atoms": [4, 6, 8, 14]}
    molecule = {
        "system": {"kind": "molecule", "name": "alanine_dipeptide"}, "temperature": 300.0, "variables": [torsion],
        "states": {"a": [[-2.0, -1.0]], "b": [[0.5, 1.5]]}, "network": {"kind": "equivariant"},
    }  # fmt: skip
    pytest.importorskip("openmm", reason="molecules need OpenMM")
    bias = {"gamma": 5.0, "height": 1.0, "axes": [{"low": 0.0, "high": 2 * PI, "width": 0.3}]}
    with pytest.raises(InputError, match=r"run from -3.14159 to 3.14159"):
        check(build(config(**molecule, bias=bias)))
    bias["axes"] = [{"low": -3.14159, "high": 3.14159, "width": 0.3}]
    check(build(config(**molecule, bias=bias)))  # rounded
    with pytest.raises(InputError, match="3 atoms; it expects pairs"):
        build(config(**molecule | {"variables": [{"kind": "coordination", "atoms": [0, 1, 2], "r0": 0.3}]}))
    with pytest.raises(InputError, match="system.options"):
        build(config(system={"kind": "double_well", "options": {"tilt": "a"}}))
