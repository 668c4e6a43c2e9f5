"""The best fixed plan: a greedy design from draws of the prior, or from a Gaussian, before any datum is seen."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.noise import Gaussian
from invdiff.operators.base import LinearOperator
from invdiff.policies.base import Policy, highest
from invdiff.policies.belief import Belief, factor_of, gather, half_logdet
from invdiff.policies.candidates import Candidates
from invdiff.policies.plans import Fixed
from invdiff.priors.gaussian import GaussianPrior

__all__ = ["greedy_design"]


def greedy_design(
    prior: Tensor | GaussianPrior,
    operator: LinearOperator,
    noise: Gaussian,
    candidates: Candidates,
    budget: int,
    initial: Sequence[int] = (),
    policy: Policy | None = None,
) -> Fixed:
    """Return the fixed plan that a policy makes from the prior alone.

    Without this baseline a claim for adaptivity is hollow: for one Gaussian the covariance does not depend on the data,
    so no adaptive policy can be better.

    Args:
        prior: draws of it ``(n, *event)`` (more draws than data of a few groups), or a Gaussian prior with its exact
            covariance.
        operator, noise: the forward model of everything that could be measured, in the unit of the draws.
        candidates: the groups.
        budget: how many groups in all.
        initial: groups measured in any case.
        policy: another than log-det; it keeps a matrix of n x n for each group.

    Raises:
        InputError: the budget does not fit.
    """
    plan = Belief.plan(candidates, initial, budget)
    rng, wanted = torch.Generator().manual_seed(0), budget - len(plan.initial)
    if isinstance(prior, GaussianPrior):
        factor = factor_of(prior)
        x = factor.to(torch.complex64 if factor.is_complex() else torch.float32)
    elif isinstance(prior, Tensor) and len(prior) > 1:
        x = (prior - prior.mean(0)) / math.sqrt(len(prior) - 1)
    else:
        raise InputError("greedy_design expects draws of the prior, two at least, or a Gaussian prior")
    if policy is not None:
        belief = (
            plan.of_gaussian(x, operator, noise)
            if isinstance(prior, GaussianPrior)
            else plan.of_particles(prior, operator, noise, informed=False)
        )
        return Fixed([*plan.initial, *policy(belief, wanted, rng)])
    z = gather(operator.forward(x), candidates, noise).transpose(0, 1)  # (groups, n, size)
    for g in plan.initial:
        z = _known(z, g)
    chosen: list[int] = []
    for _ in range(wanted):
        (best,) = highest(plan, _information(z), 1)
        chosen.append(best)
        plan = plan.after([best])
        z = _known(z, best)
    return Fixed([*plan.initial, *chosen])


def _information(z: Tensor) -> Tensor:
    """``1/2 log det(I + Z_g Z_g^T)``, on the smaller side, ``(groups,)``."""
    return half_logdet(z @ z.mT if z.shape[1] <= z.shape[2] else z.mT @ z)


def _known(z: Tensor, group: int) -> Tensor:
    """Predictions once a group is measured: ``(I + Z_g Z_g^T)^-1/2 Z``; so no matrix of n x n draws is kept."""
    q, s, _ = torch.linalg.svd(z[group], full_matrices=False)
    return z - q * (1 - 1 / (1 + s**2).sqrt()) @ (q.mT @ z)
