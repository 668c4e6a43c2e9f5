"""What is believed before the next decision, in the form that policies need.

Everything a policy asks of particles ``x_i`` is in small matrices, one for each group g of data: with the predictions
``z_i = A_g x_i / sigma`` in units of the noise,

    ``K_g[i, j] = Re <z_i - m, z_j - m> / (N - 1)``,   m their mean.

Squared distances between predictions are ``(N - 1)(K_ii + K_jj - 2 K_ij)``, and the covariance of the predictions has
the eigenvalues of K_g, so ``1/2 log det(I + sum_g K_g)`` is the information, in nats, that groups would give on a
Gaussian belief with that covariance. Matrices of several groups add.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.noise import Gaussian
from invdiff.operators.base import LinearOperator
from invdiff.policies.candidates import Candidates
from invdiff.priors.gaussian import GaussianPrior

__all__ = ["Belief", "factor_of", "gather", "half_logdet"]


@dataclass(frozen=True)
class Belief:
    """Particles, or a Gaussian, seen through the candidates.

    Args:
        candidates: the groups.
        taken: ``(groups,)``: measured already, or not to be had.
        budget: how many groups there will be in the end, those of the beginning among them.
        initial: groups measured before the first decision.
        x: particles ``(N, *event)``, or columns of a factor of the covariance.
        spread: K, ``(groups, N, N)``; None for policies that look at the plan alone.
        is_gaussian: whether x is a factor, ``Cov[x] = sum_k x_k x_k^T``, instead of particles.
        pending: groups that were measured, but of which x does not know (the initial ones, for a design from draws of
            the prior).
        operator, sigma: the forward model and the noise, for policies that look at single data.
        unit: the particles' unit over that of the instrument's x.
    """

    candidates: Candidates
    taken: Tensor
    budget: int
    initial: tuple[int, ...] = ()
    x: Tensor | None = None
    spread: Tensor | None = None
    is_gaussian: bool = False
    pending: tuple[int, ...] = ()
    operator: LinearOperator | None = None
    sigma: float | Tensor = 1.0
    unit: float = 1.0
    _kept: dict[str, Tensor] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def plan(cls, candidates: Candidates, initial: Sequence[int], budget: int) -> Belief:
        """Nothing but the plan: what is there, what is taken, how much may be. Raises InputError."""
        available = int(candidates.exists.sum())
        if len(set(initial)) < len(initial) or not all(0 <= g < len(candidates) for g in initial):
            raise InputError(f"initial is {list(initial)}; expected different groups from 0 to {len(candidates) - 1}")
        if not len(set(initial)) <= budget <= available:
            raise InputError(
                f"the budget is {budget} groups, {len(set(initial))} of them initial ones; {available} exist"
            )
        taken = ~candidates.exists
        taken[list(initial)] = True
        return cls(candidates, taken, budget, tuple(initial), pending=tuple(initial))

    def after(self, groups: Sequence[int]) -> Belief:
        """The same with more groups taken, of which x does not know yet."""
        taken = self.taken.clone()
        taken[list(groups)] = True
        return replace(self, taken=taken, pending=(*self.pending, *groups), _kept={})

    def of_particles(self, x: Tensor, operator: LinearOperator, noise: Gaussian, informed: bool = True) -> Belief:
        """The plan with particles x ``(N, *event)``, N > 1; `informed`: they know of all that was taken.

        Raises InputError for a single particle.
        """
        if len(x) < 2:
            raise InputError(f"a belief of {len(x)} particle has no spread; use at least 2, better 8 to 32")
        deviation = gather(operator.forward(x), self.candidates, noise)
        deviation = deviation - deviation.mean(0)
        spread = _gram(deviation) / (len(x) - 1)
        return self._with(x, spread, False, operator, noise, informed)

    def of_gaussian(self, factor: Tensor, operator: LinearOperator, noise: Gaussian, informed: bool = False) -> Belief:
        """The plan with a Gaussian: ``Cov[x] = sum_k f_k f_k^T`` for the factor f ``(r, *event)`` (see `factor_of`)."""
        spread = _gram(gather(operator.forward(factor), self.candidates, noise))
        return self._with(factor, spread, True, operator, noise, informed)

    def _with(
        self, x: Tensor, spread: Tensor, gaussian: bool, operator: LinearOperator, noise: Gaussian, informed: bool
    ) -> Belief:
        return replace(
            self, x=x, spread=spread, is_gaussian=gaussian, pending=() if informed else self.pending,
            operator=operator, sigma=noise.sigma, _kept={},
        )  # fmt: skip

    # ---- what policies ask -------------------------------------------------------------------------------------
    @property
    def free(self) -> Tensor:
        """Groups that may be chosen, ``(groups,)``."""
        return ~self.taken

    @property
    def k(self) -> Tensor:
        """`spread`. Raises InputError where there are no particles."""
        if self.spread is None:
            raise InputError("this policy needs particles; it was shown a plan without a belief")
        return self.spread

    def at(self, groups: Sequence[int]) -> Tensor:
        """``sum_g K_g`` over groups that are pending or given, ``(N, N)``."""
        return self.k[[*self.pending, *groups]].sum(0)

    @property
    def distances(self) -> Tensor:
        """Squared distances between predictions in units of the noise, ``(groups, N, N)``. Particles only."""
        if self.is_gaussian:
            raise InputError("this policy works on particles; of a Gaussian belief use log-det, A- or D-optimality")
        if "distances" not in self._kept:
            self._kept["distances"] = to_distances(self.k)
        return self._kept["distances"]

    @property
    def target(self) -> Tensor:
        """``X X^T / (N - 1)`` of the particles' deviations (of a Gaussian ``X X^T``), ``(N, N)``: what is uncertain."""
        return quantity_gram(self, None)

    # ---- how much is left to learn -----------------------------------------------------------------------------
    def information(self, groups: Sequence[int]) -> float:
        """``1/2 log det(I + K)``: nats that groups would give if the belief were Gaussian."""
        return float(half_logdet(self.k[list(groups)].sum(0)))

    @property
    def entropy(self) -> float:
        """Nats that measuring all data would still give (`information` of everything): 0 where particles agree."""
        return float(half_logdet(self.k.sum(0)))

    @property
    def uncertainty(self) -> float:
        """Expected NMSE of the particles' mean, ``(1 + 1/N) tr Cov / E|x|^2``, as a root: relative error, 0 to 1."""
        x = self.x
        if x is None or self.is_gaussian:
            raise InputError("the expected error needs particles")
        flat = x.flatten(1)
        variance = float((flat - flat.mean(0)).abs().square().sum()) / (len(x) - 1)
        square = float(flat.mean(0).abs().square().sum()) + variance
        return math.sqrt((1 + 1 / len(x)) * variance / square) if square > 0 else 1.0


def gather(y: Tensor, candidates: Candidates, noise: Gaussian) -> Tensor:
    """Whitened data ``(N, *range)`` by group, ``(N, groups, size)`` in double precision, zeros where a group is short.

    Complex data are two real ones: ``(N, groups, 2 size)``.
    """
    members = candidates.members.to(y.device)
    flat = noise.whiten(y).flatten(1)
    part = flat[:, members.clamp_min(0)] * (members >= 0)
    part = torch.view_as_real(part).flatten(-2) if part.is_complex() else part
    return part if part.device.type == "mps" else part.double()


def _gram(z: Tensor) -> Tensor:
    z = z.transpose(0, 1)
    return z @ z.mT


def to_distances(k: Tensor) -> Tensor:
    """Squared distances from covariance matrices ``(..., N, N)`` of N particles."""
    d = k.diagonal(dim1=-2, dim2=-1)
    return ((d[..., None] + d[..., None, :] - 2 * k) * (k.shape[-1] - 1)).clamp_min(0)


def half_logdet(k: Tensor) -> Tensor:
    """``1/2 log det(I + K)`` of positive semidefinite K ``(..., N, N)``."""
    eye = torch.eye(k.shape[-1], dtype=k.dtype, device=k.device)
    return torch.linalg.cholesky(k + eye).diagonal(dim1=-2, dim2=-1).log().sum(-1)


def quantities(belief: Belief, quantity: Callable[[Tensor], Tensor] | None) -> Tensor:
    """Deviations of x, or of what `quantity` makes of it ``(N, m)``, as real numbers over ``sqrt(N - 1)``."""
    x = belief.x
    if x is None:
        raise InputError("this policy needs particles; it was shown a plan without a belief")
    v = (x if quantity is None else quantity(x)).flatten(1)
    v = torch.view_as_real(v).flatten(1) if v.is_complex() else v
    v = v if v.device.type == "mps" else v.double()
    return v if belief.is_gaussian else (v - v.mean(0)) / math.sqrt(len(v) - 1)


def quantity_gram(belief: Belief, quantity: Callable[[Tensor], Tensor] | None) -> Tensor:
    """Gram matrix ``(N, N)`` of `quantities`."""
    v = quantities(belief, quantity)
    return v @ v.mT


def factor_of(prior: GaussianPrior) -> Tensor:
    """``(r, *event)`` with ``Cov[x] = sum_k f_k f_k^T`` over real components; of complex x f and i f."""
    columns = (prior.directions * prior.variances.sqrt()).mT[prior.variances > 0]
    columns = columns.reshape(-1, *prior.sample_shape)
    return torch.cat([columns, 1j * columns]) if columns.is_complex() else columns
