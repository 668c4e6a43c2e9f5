import math

import pytest
import torch

from invdiff.errors import InputError, UnknownNameError
from invdiff.noise import Gaussian
from invdiff.operators.matrix import Identity
from invdiff.operators.transforms import Fourier
from invdiff.policies import (
    Belief,
    Candidates,
    Entropy,
    Equispaced,
    Fixed,
    InformationGain,
    LogDet,
    LowFrequency,
    PublishedEntropy,
    Random,
    VariableDensity,
    Variance,
    named_policy,
    policy_names,
)
from invdiff.random import generator


def belief_of(x: torch.Tensor, sigma: float = 1.0, budget: int = 1) -> Belief:
    op = Identity(x.shape[1:])
    return Belief.plan(Candidates.along(op, 0), (), budget).of_particles(x, op, Gaussian(sigma))


def mixture_entropy(x: torch.Tensor, n: int = 200_000) -> float:
    """Entropy of ``1/N sum N(x_i, 1)`` on a line above that of N(0, 1), by quadrature."""
    grid = torch.linspace(float(x.min()) - 8, float(x.max()) + 8, n, dtype=torch.float64)
    p = torch.exp(-0.5 * (grid[:, None] - x.double()) ** 2).mean(1) / math.sqrt(2 * math.pi)
    p = p.clamp_min(1e-300)
    return float(-(p * p.log()).sum() * (grid[1] - grid[0])) - 0.5 * math.log(2 * math.pi * math.e)


@pytest.mark.parametrize("spread", [0.3, 1.5, 4.0])
def test_entropies_bound_the_truth(spread: float) -> None:
    x = spread * torch.randn(12, 1, generator=generator(0))
    belief, exact = belief_of(x), mixture_entropy(x[:, 0])
    upper, lower = Entropy(2.0, 1.0).scores(belief)[0], Entropy(8.0, 1.0).scores(belief)[0]
    assert lower - 1e-9 <= exact <= upper + 1e-9  # Bhattacharyya and Kullback-Leibler
    probe = torch.randn(12, 4000, generator=generator(1), dtype=torch.float64)
    found = InformationGain(width=1.0).scores(belief, (), probe)[0]
    assert float(found) == pytest.approx(exact, abs=0.02)


def test_signs_differ_where_noise_is_as_large_as_distances() -> None:
    # Entry 0 splits the particles in halves; entry 1 has one far outlier. Halves tell more; a positive exponent
    # is taken in by the outlier.
    x = torch.zeros(16, 2)
    x[::2, 0], x[0, 1] = 4.0, 9.0
    belief = belief_of(x)
    assert Entropy(width=1.0)(belief, 1, generator(0)) == [0]
    assert InformationGain(64, width=1.0)(belief, 1, generator(0)) == [0]
    assert PublishedEntropy()(belief, 1, generator(0)) == [1]
    # Where the noise is large all scores are linear in the squared distances and agree with the variance.
    y = torch.randn(16, 9, generator=generator(3)) * torch.linspace(0.5, 2, 9)
    far = belief_of(y, sigma=100.0)
    assert (
        PublishedEntropy()(far, 9, generator(0))
        == Variance()(far, 9, generator(0))
        == Entropy(width=1.0)(far, 9, generator(0))
    )


def test_precise_data_are_told_apart() -> None:
    # At true width every entry separates all particles and scores log N: the widened kernel still finds the largest.
    x = torch.randn(8, 5, generator=generator(0)) * torch.tensor([1.0, 2, 5, 3, 0.5])
    belief = belief_of(x, sigma=1e-4)
    torch.testing.assert_close(Entropy(width=1.0).scores(belief), torch.full((5,), math.log(8)).double())
    assert Entropy()(belief, 1, generator(0)) == [2]
    assert InformationGain()(belief, 1, generator(0)) == [2]


@pytest.mark.parametrize("policy", [Entropy(), InformationGain(), LogDet()], ids=lambda p: p.name)
def test_what_is_chosen_together_does_not_repeat(policy) -> None:
    # Entries 0 and 1 are the same number; entry 2 varies a little less but on its own. One Gaussian, 40 draws.
    z = torch.randn(40, 2, generator=generator(0))
    z = z / z.std(0)
    x = torch.stack([2 * z[:, 0], 2 * z[:, 0], 1.9 * z[:, 1]], 1)
    chosen = policy(belief_of(x, sigma=0.2), 2, generator(0))
    assert 2 in chosen
    assert sorted(Variance()(belief_of(x, sigma=0.2), 2, generator(0))) == [0, 1]


def test_pending_groups_count() -> None:
    z = torch.randn(40, 2, generator=generator(0))
    x = torch.stack([2 * z[:, 0], 2 * z[:, 0], z[:, 1]], 1)
    belief = belief_of(x, sigma=0.2).after([0])
    assert LogDet()(belief, 1, generator(0)) == [2] and Entropy()(belief, 1, generator(0)) == [2]


def test_plans() -> None:
    op = Fourier((1, 4, 64))
    candidates = Candidates.along(op, -1)
    plan = Belief.plan(candidates, (32, 33), 18)
    low = LowFrequency()(plan, 16, generator(0))
    assert sorted([*low, 32, 33]) == list(range(23, 41)) or sorted([*low, 32, 33]) == list(range(24, 42))
    even = sorted(Equispaced()(plan, 16, generator(0)))
    gaps = [b - a for a, b in zip(even, even[1:], strict=False)]
    assert len(even) == 16 and 3 <= min(gaps) and max(gaps) <= 6
    density = torch.zeros(64)
    for seed in range(300):
        chosen = VariableDensity(0.1)(plan, 8, generator(seed))
        assert len(set(chosen)) == 8 and not {32, 33} & set(chosen)
        density[chosen] += 1
    assert density[28:32].mean() > 3 * density[12:20].mean() > 0
    uniform = torch.zeros(64)
    for seed in range(300):
        uniform[Random()(plan, 16, generator(seed))] += 1
    # 16 of 62 for each: 77 expected, standard deviation 7.6; five of them
    assert uniform[32:34].sum() == 0 and 38 < uniform[uniform > 0].min() and uniform.max() < 116


def test_fixed_plan_goes_on_where_it_stands() -> None:
    candidates = Candidates.along(Identity((6,)), 0)
    plan = Belief.plan(candidates, (3,), 5)
    policy = Fixed([5, 3, 0, 1])
    assert policy(plan, 2, generator(0)) == [5, 0]
    assert policy(plan.after([5, 0]), 2, generator(0)) == [1]
    with pytest.raises(InputError, match="twice"):
        Fixed([1, 1])
    with pytest.raises(InputError, match="there are 6"):
        Fixed([6])(plan, 1, generator(0))


def test_names() -> None:
    for name in policy_names():
        assert named_policy(name).name == name
    with pytest.raises(UnknownNameError, match="entropy"):
        named_policy("entropie")


def test_plan_has_no_belief() -> None:
    plan = Belief.plan(Candidates.along(Identity((4,)), 0), (), 2)
    with pytest.raises(InputError, match="needs particles"):
        Entropy()(plan, 1, generator(0))
