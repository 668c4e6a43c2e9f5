"""Free energies: states, weights, errors that cover, quadrature, MBAR."""

import math

import numpy as np
import pytest
import torch

from invdiff.errors import InputError, ShapeError
from invdiff.metrics.free_energy import (
    delta_f_of_grid,
    delta_f_of_samples,
    effective_size,
    inside,
    jackknife,
    mbar,
    pmf_difference,
    pmf_of_samples,
    quadrature,
)

LEFT, RIGHT = [(None, 0.0)], [(0.0, None)]


def test_states_are_boxes_half_open_and_may_wrap() -> None:
    s = torch.tensor([[-3.0], [0.0], [1.0], [3.0]])
    assert inside(s, RIGHT).tolist() == [False, True, True, True]
    assert inside(s, [(2.2, 0.0)]).tolist() == [True, False, False, True]
    assert inside(torch.tensor([[1.0, 5.0]]), [(0, 2), (None, 4)]).tolist() == [False]
    with pytest.raises(ShapeError, match="one each"):
        inside(s, [(0, 1), (0, 1)])


def test_weights_count() -> None:
    s = torch.tensor([[-1.0], [-2.0], [1.0]])
    w = torch.tensor([1.0, 2.0, 3.0]).log()
    assert delta_f_of_samples(s, w, LEFT, RIGHT) == pytest.approx(0.0, abs=1e-6)
    assert delta_f_of_samples(s, torch.zeros(3), LEFT, RIGHT) == pytest.approx(math.log(2))
    assert delta_f_of_samples(s[:2], w[:2], LEFT, RIGHT) == math.inf
    assert effective_size(torch.zeros(7)) == pytest.approx(7)
    assert effective_size(torch.tensor([0.0, -50.0])) == pytest.approx(1)


def test_grid_of_a_known_profile() -> None:
    s = torch.linspace(-5, 5, 2001, dtype=torch.float64)
    f = (s - 1) ** 2 / 2
    exact = -math.log(0.8413447460685429 / 0.15865525393145707)
    assert delta_f_of_grid(f, [s], LEFT, RIGHT) == pytest.approx(exact, abs=5e-3)  # half a cell at the edge


def test_quadrature_of_a_gaussian_in_the_plane() -> None:
    exact = -math.log(0.15865525393145707 / 0.8413447460685429)
    found = quadrature(
        lambda x: (x[:, 0] + 1) ** 2 / 2 + x[:, 1] ** 2, [(-9, 7), (-6, 6)], LEFT, RIGHT, variable=lambda x: x[:, :1]
    )
    assert found == pytest.approx(exact, abs=1e-4)


def test_jackknife_covers() -> None:
    # 200 experiments of 40 chains: the standard error must be that of the estimates.
    rng = torch.Generator().manual_seed(0)
    found = []
    for _ in range(200):
        offset = 0.5 * torch.randn(40, 1, generator=rng)  # chains differ, so their frames are not independent
        s = (offset + torch.randn(40, 25, generator=rng))[..., None]
        found.append(jackknife(s, torch.zeros(40, 25), LEFT, RIGHT))
    values, errors = torch.tensor(found).T
    assert float(errors.mean()) == pytest.approx(float(values.std()), rel=0.2)
    assert jackknife(s, torch.zeros(40, 25), LEFT, RIGHT, blocks=10)[0] == pytest.approx(found[-1][0])
    with pytest.raises(InputError, match="one block"):
        jackknife(s[:1], torch.zeros(1, 25), LEFT, RIGHT)


def test_a_state_seen_by_one_chain_has_no_error() -> None:
    s = -torch.ones(4, 3, 1)
    s[2] = 1
    value, error = jackknife(s, torch.zeros(4, 3), LEFT, RIGHT)
    assert value == pytest.approx(math.log(3)) and error == math.inf


def test_profiles() -> None:
    rng = torch.Generator().manual_seed(0)
    s = torch.randn(200_000, 1, generator=rng)
    edges = torch.linspace(-2, 2, 21, dtype=torch.float64)
    middle = 0.5 * (edges[1:] + edges[:-1])
    weight = 0.5 * s[:, 0]  # tilts N(0, 1) to N(1/2, 1)
    f = pmf_of_samples(s, weight, [edges])
    truth = 0.5 * (middle - 0.5) ** 2
    assert pmf_difference(f, truth) < 0.02
    assert pmf_difference(f + 3.0, truth) == pytest.approx(pmf_difference(f, truth), abs=1e-9)
    assert pmf_difference(f + middle, truth) > 0.3


def test_mbar_joins_biased_runs() -> None:
    pytest.importorskip("pymbar")
    # N(0, 1) sampled with two linear biases: b s takes it to N(-b, 1).
    rng = np.random.default_rng(0)
    tilts = np.array([-1.0, 1.5])
    s = np.concatenate([rng.normal(-b, 1, 4000) for b in tilts])
    w = np.exp(mbar(tilts[:, None] * s, [4000, 4000]))
    assert w.sum() == pytest.approx(1)
    assert (w * s).sum() == pytest.approx(0, abs=0.06) and (w * s**2).sum() == pytest.approx(1, abs=0.08)
    with pytest.raises(ShapeError, match="add up|fit"):
        mbar(np.zeros((2, 10)), [4, 4])
