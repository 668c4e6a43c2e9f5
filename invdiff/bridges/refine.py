"""Markov chains in the frozen bias, started from a sampler's draws: what is reported comes from these.

A diffusion sampler has an error of its own along the collective variables, and both of its free-energy estimates
inherit it. Chains started from its draws forget that error, quickly where the bias has flattened the barriers. Their
states, weighted by ``exp(+V(s))``, stand for the unbiased density.

- `mala_step`: Metropolis-adjusted Langevin (Roberts, Tweedie 1996), exact for any step size.
- `langevin_step`: BAOAB splitting of Langevin dynamics (Leimkuhler, Matthews 2013, doi 10.1093/amrx/abs010), for
  molecules, whose stiff bonds make Metropolis steps small.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from invdiff.bridges.bias import Bias
from invdiff.bridges.sde import centred
from invdiff.bridges.target import Evaluated, Target
from invdiff.errors import InputError

__all__ = ["Record", "Walkers", "advance", "begin", "langevin_step", "mala_step", "settle", "walk"]


@dataclass(frozen=True)
class Walkers:
    """Chains side by side: configurations, velocities of Langevin dynamics, MALA's step, the share accepted."""

    found: Evaluated
    velocity: Tensor
    step: float
    accepted: float = math.nan


@dataclass(frozen=True)
class Record:
    """A snapshot of all chains: x ``(W, *event)``, s ``(W, k)``, u and the bias v ``(W,)``, in kT."""

    x: Tensor
    s: Tensor
    u: Tensor
    v: Tensor


def begin(target: Target, x: Tensor, step: float, rng: torch.Generator, masses: Tensor | None = None) -> Walkers:
    """Start chains at x ``(W, *event)``; with `masses` (atoms,) in Da, Langevin velocities in nm/ps are drawn."""
    if not step > 0:
        raise InputError(f"the refinement's step is {step}; it expects a number above 0")
    velocity = torch.zeros_like(x)
    if masses is not None:
        noise = torch.randn(x.shape, generator=rng, dtype=x.dtype, device=x.device)
        velocity = (target.kT / masses.to(x))[:, None].sqrt() * noise
    return Walkers(target.evaluate(x), velocity, step)


def mala_step(target: Target, bias: Bias | None, now: Walkers, rng: torch.Generator) -> Walkers:
    """Propose ``x' = x - d^2/2 grad + d noise``, accept with Metropolis' probability, d the step.

    A chain whose energy is not finite moves to the first proposal that has one.
    """
    found, d = now.found, now.step
    u, g = found.biased(bias)
    noise = torch.randn(found.x.shape, generator=rng, dtype=found.x.dtype, device=found.x.device)
    noise = centred(noise) if target.mean_free else noise
    g = torch.nan_to_num(g, nan=0.0, posinf=0.0, neginf=0.0)
    proposal = target.evaluate(found.x - d**2 / 2 * g + d * noise)
    u_new, g_new = proposal.biased(bias)
    back = found.x - proposal.x + d**2 / 2 * g_new
    log_ratio = u - u_new - (back.square() / (2 * d**2) - noise.square() / 2).flatten(1).sum(1)
    draw = torch.rand(u.shape, generator=rng, dtype=u.dtype, device=u.device)
    possible = torch.isfinite(u_new) & torch.isfinite(g_new).flatten(1).all(1)
    accept = possible & ((draw.log() < log_ratio) | ~torch.isfinite(u))
    return replace(now, found=_choose(accept, proposal, found), accepted=float(accept.double().mean()))


def langevin_step(
    target: Target,
    bias: Bias | None,
    now: Walkers,
    rng: torch.Generator,
    masses: Tensor,
    friction: float = 5.0,
) -> Walkers:
    """One BAOAB step of `now.step` ps with friction in 1/ps; one force per chain.

    A chain whose new energy is not finite stays where it was and gets its velocity reversed.
    """
    found, dt = now.found, now.step
    inverse = target.kT / masses.to(found.x)[:, None]  # forces are in kT per nm
    v = now.velocity - dt / 2 * inverse * found.biased(bias)[1]
    x = found.x + dt / 2 * v
    keep = math.exp(-friction * dt)
    noise = torch.randn(v.shape, generator=rng, dtype=v.dtype, device=v.device)
    v = keep * v + math.sqrt(1 - keep**2) * inverse.sqrt() * noise
    x = x + dt / 2 * v
    new = target.evaluate(x)
    u, g = new.biased(bias)
    good = torch.isfinite(u) & torch.isfinite(g).flatten(1).all(1)
    v = torch.where(good.reshape(-1, *[1] * (v.ndim - 1)), v - dt / 2 * inverse * g, -now.velocity)
    return Walkers(_choose(good, new, found), v, dt, float(good.double().mean()))


def settle(target: Target, bias: Bias | None, x: Tensor, steps: int, step: float, rng: torch.Generator) -> Evaluated:
    """Take a few MALA steps and return where they end, evaluated."""
    now = begin(target, x, step, rng)
    for _ in range(steps):
        now = mala_step(target, bias, now, rng)
    return now.found


def walk(
    target: Target,
    bias: Bias | None,
    now: Walkers,
    steps: int,
    rng: torch.Generator,
    every: int = 1,
    adapt: bool = False,
    masses: Tensor | None = None,
    friction: float = 5.0,
) -> Iterator[tuple[Walkers, Record]]:
    """Yield the chains and a record of them every `every` steps: MALA, or Langevin dynamics where masses are given.

    With `adapt` (while burning in) MALA's step moves towards 57 % acceptance, the best in many dimensions.
    """
    for k in range(1, steps + 1):
        if masses is None:
            now = mala_step(target, bias, now, rng)
            if adapt:
                now = replace(now, step=now.step * math.exp(0.1 * (now.accepted - 0.57)))
        else:
            now = langevin_step(target, bias, now, rng, masses, friction)
        if k % every == 0:
            found = now.found
            v = found.biased(bias)[0] - found.u
            yield now, Record(found.x, found.s, found.u, v)


def advance(
    target: Target, bias: Bias | None, now: Walkers, steps: int, rng: torch.Generator, adapt: bool = False
) -> Walkers:
    """Return the chains after some MALA steps, as `walk`."""
    for last, _ in walk(target, bias, now, steps, rng, adapt=adapt):
        now = last
    return now


def _choose(condition: Tensor, yes: Evaluated, no: Evaluated) -> Evaluated:
    parts = []
    for name in ("x", "u", "gradient", "s", "jacobian"):
        a, b = getattr(yes, name), getattr(no, name)
        parts.append(torch.where(condition.reshape(-1, *[1] * (a.ndim - 1)), a, b))
    return Evaluated(*parts)
