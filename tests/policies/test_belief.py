import math

import pytest
import torch

from invdiff.errors import InputError, ShapeError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.ct import ParallelCT
from invdiff.operators.fields.sensors import PointSensors
from invdiff.operators.matrix import Identity
from invdiff.operators.mri.sense import MRI
from invdiff.operators.transforms import Fourier
from invdiff.policies import AOptimal, Belief, Candidates, DOptimal, LogDet, Oracle, factor_of, greedy_design
from invdiff.policies.belief import half_logdet
from invdiff.random import generator
from invdiff.validation.linear_gaussian import posterior, real_matrix


def test_groups_of_any_operator() -> None:
    columns = Candidates.along(MRI(torch.ones(2, 6, 8, dtype=torch.complex64), torch.ones(8, dtype=torch.bool)), -1)
    assert len(columns) == 8 and columns.members.shape == (8, 12)  # both coils of a column together
    mask = columns.mask([0, 3]).expand(2, 6, 8)
    assert mask[..., [0, 3]].all() and int(mask.sum()) == 24
    assert columns.positions[4] == 0 and columns.positions[0] == -0.5
    points = Candidates.along(Fourier((1, 6, 8)), -2, -1)
    assert len(points) == 48 and points.members.shape == (48, 1) and points.positions.shape == (48, 2)
    views = Candidates.along(ParallelCT((8, 8), torch.linspace(0, 3, 5), 12), 0)
    assert len(views) == 5 and views.members.shape == (5, 12)


def test_groups_that_hold_nothing_are_not_chosen() -> None:
    mask = torch.tensor([True, False, True, True])
    op = MRI(torch.ones(1, 4, 4, dtype=torch.complex64), mask)
    candidates = Candidates.along(op, -1)
    assert candidates.exists.tolist() == mask.tolist()
    x = torch.randn(5, 1, 4, 4, dtype=torch.complex64, generator=generator(0))
    belief = Belief.plan(candidates, (), 3).of_particles(x, op, Gaussian(0.1))
    assert sorted(LogDet()(belief, 4, generator(0))) == [0, 2, 3]


def test_labels_and_budgets_are_checked() -> None:
    op = Identity((4,))
    with pytest.raises(ShapeError, match="do not broadcast"):
        Candidates(op, torch.zeros(3, dtype=torch.long))
    with pytest.raises(InputError, match="integers"):
        Candidates(op, torch.zeros(4))
    candidates = Candidates(op, torch.tensor([0, 0, 1, -1]))
    assert candidates.members.tolist() == [[0, 1], [2, -1]]
    with pytest.raises(InputError, match="2 exist"):
        Belief.plan(candidates, (), 3)
    with pytest.raises(InputError, match="do not exist"):
        candidates.mask([2])
    with pytest.raises(InputError, match="no spread"):
        Belief.plan(candidates, (), 2).of_particles(torch.zeros(1, 4), op, Gaussian(1.0))


def test_distances_and_information_are_those_of_the_data() -> None:
    op = PointSensors((1, 5, 5), [range(5), range(5)], 4 * torch.rand(6, 2, generator=generator(1)).double())
    sigma = torch.linspace(0.5, 2, 6)
    noise, candidates = Gaussian(sigma), Candidates(op, torch.tensor([[0, 0, 1, 2, 2, 2]]))
    x = torch.randn(7, 1, 5, 5, generator=generator(2))
    belief = Belief.plan(candidates, (), 2).of_particles(x, op, noise)
    z = (op.forward(x) / sigma).double()[:, 0]
    parts = [z[:, :2], z[:, 2:3], z[:, 3:]]
    for d, part in zip(belief.distances, parts, strict=True):
        torch.testing.assert_close(d, torch.cdist(part, part) ** 2, atol=1e-5, rtol=1e-5)
    covariance = torch.cov(z.T)
    exact = 0.5 * torch.logdet(torch.eye(6).double() + covariance)
    assert belief.entropy == pytest.approx(float(exact), rel=1e-5)
    two = torch.cov(z[:, [0, 1, 3, 4, 5]].T)
    assert belief.information([0, 2]) == pytest.approx(float(0.5 * torch.logdet(torch.eye(5).double() + two)), rel=1e-5)


def test_gaussian_belief_is_exact(problem) -> None:
    prior, op, noise, candidates = problem
    belief = Belief.plan(candidates, (), 3).of_gaussian(factor_of(prior).to(torch.complex64), op, noise)
    a = real_matrix(op)
    factor = factor_of(prior)
    c = torch.view_as_real(factor).flatten(1).mT @ torch.view_as_real(factor).flatten(1)
    rows = candidates.mask([2, 5]).expand(op.range_shape).flatten().repeat_interleave(2)
    s = a[rows] @ c @ a[rows].mT / noise.sigma**2
    exact = 0.5 * torch.logdet(torch.eye(len(s), dtype=s.dtype) + s)
    assert belief.information([2, 5]) == pytest.approx(float(exact), rel=1e-5)
    assert float(half_logdet(belief.at([2, 5]))) == pytest.approx(float(exact), rel=1e-5)


@pytest.mark.parametrize("policy", [AOptimal(), AOptimal(lambda x: x[:, 0, 2:4].flatten(1).sum(1, keepdim=True))])
def test_a_optimal_is_the_trace_of_the_posterior(problem, policy) -> None:
    prior, op, noise, candidates = problem
    factor = factor_of(prior).to(torch.complex64)
    belief = Belief.plan(candidates, (), 2).of_gaussian(factor, op, noise)
    (best,) = policy(belief, 1, generator(0))
    traces = []
    for g in range(len(candidates)):
        some, y = candidates.restrict(op, torch.zeros(op.range_shape, dtype=torch.complex64), [g])
        covariance = posterior(prior, Measurement(y, some, noise)).covariance
        if policy.quantity is not None:
            basis = torch.eye(128, dtype=torch.float64).reshape(128, 1, 8, 8, 2)
            q = policy.quantity(torch.view_as_complex(basis))
            q = torch.view_as_real(q).flatten(1)
            covariance = q.mT @ covariance @ q
        traces.append(float(covariance.trace()))
    assert best == min(range(len(traces)), key=traces.__getitem__)


def test_d_optimal_of_few_numbers() -> None:
    # Two numbers x0, x1 of 4, seen one entry at a time: their volume shrinks most by the noisiest-known of the two.
    op, noise = Identity((4,)), Gaussian(0.1)
    candidates = Candidates.along(op, 0)
    factor = torch.diag(torch.tensor([1.0, 2.0, 9.0, 9.0]))
    belief = Belief.plan(candidates, (), 2).of_gaussian(factor, op, noise)
    assert DOptimal(lambda x: x[:, :2])(belief, 2, generator(0)) == [1, 0]
    assert DOptimal()(belief, 1, generator(0)) == LogDet()(belief, 1, generator(0))
    with pytest.raises(InputError, match="no inverse"):
        particles = Belief.plan(candidates, (), 2).of_particles(torch.randn(3, 4), op, noise)
        DOptimal(lambda x: x[:, :3])(particles, 1, generator(0))


def test_design_is_the_greedy_policy(problem) -> None:
    prior, op, noise, candidates = problem
    design = greedy_design(prior, op, noise, candidates, 5, (4,))
    belief = Belief.plan(candidates, (4,), 5).of_gaussian(factor_of(prior).to(torch.complex64), op, noise)
    assert design.order == [4, *LogDet()(belief, 4, generator(0))]
    x = prior.sample(300, generator(3))
    of_draws = greedy_design(x, op, noise, candidates, 5, (4,)).order
    whole = Belief.plan(candidates, (), 5).of_gaussian(factor_of(prior).to(torch.complex64), op, noise)
    assert whole.information(of_draws) > 0.99 * whole.information(design.order)
    by_policy = greedy_design(x, op, noise, candidates, 5, (4,), policy=LogDet()).order
    assert by_policy == of_draws
    with pytest.raises(InputError, match="two at least"):
        greedy_design(x[:1], op, noise, candidates, 5)


def test_design_knows_what_it_has_chosen() -> None:
    # Entries 0 and 1 are the same number; entry 2 varies less, but on its own.
    z = torch.randn(40, 2, generator=generator(0))
    x = torch.stack([2 * z[:, 0], 2 * z[:, 0], z[:, 1]], 1)
    op, noise = Identity((3,)), Gaussian(0.2)
    candidates = Candidates.along(op, 0)
    assert 2 in greedy_design(x, op, noise, candidates, 2).order
    assert greedy_design(x, op, noise, candidates, 2, (1,)).order == [1, 2]


def test_oracle_takes_what_helps_most() -> None:
    # Particles differ along two entries; the truth differs from their mean along the second alone.
    op, noise = Identity((3,)), Gaussian(0.1)
    candidates = Candidates.along(op, 0)
    x = torch.tensor([[3.0, 1, 0], [-3, 1, 0], [3, -1, 0], [-3, -1, 0]])
    belief = Belief.plan(candidates, (), 1).of_particles(x, op, noise)
    assert LogDet()(belief, 1, generator(0)) == [0]
    assert Oracle(torch.tensor([0.0, 1, 0]))(belief, 1, generator(0)) == [1]
    with pytest.raises(InputError, match="truth of shape"):
        Oracle(torch.zeros(2))(belief, 1, generator(0))


def test_expected_error() -> None:
    op, noise = Identity((1000,)), Gaussian(1.0)
    x = 3 + 0.3 * torch.randn(200, 1000, generator=generator(0))
    belief = Belief.plan(Candidates.along(op, 0), (), 1).of_particles(x, op, noise)
    assert belief.uncertainty == pytest.approx(0.3 / math.sqrt(9 + 0.09), rel=0.02)
