"""The exact toys of `active.py`: selection alone, the posterior in closed form, no sampler in the way.

- `templates`: one blob of unknown kind and place on a grid of pixels, a discrete prior of 1600 images. Its posterior
  is a softmax, so particles are exact draws. What to look at next depends on what was seen: adaptivity pays.
- `lines`: phantoms of eight kinds, each a Gaussian of low rank, seen by k-space columns. The posterior is a mixture of
  Gaussians in closed form.
- `gaussian`: one Gaussian. The posterior's covariance does not depend on the data, so the adaptive mask is the fixed
  one, and what a policy chooses from particles is judged by the information it gets of the greedy optimum.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from invdiff.noise import Gaussian
from invdiff.operators.fourier import fft2c
from invdiff.operators.matrix import Identity
from invdiff.operators.transforms import Fourier
from invdiff.policies import (
    Belief,
    Candidates,
    Entropy,
    InformationGain,
    LogDet,
    LowFrequency,
    Policy,
    PublishedEntropy,
    Random,
    VariableDensity,
    Variance,
    greedy_design,
)
from invdiff.random import generator

PARTICLES = 16
BLOBS = ((1.5, 1.5), (2.5, 2.5), (4.0, 1.5), (1.5, 4.0))  # height and width of the templates, standard deviations


# ---- one object, somewhere ---------------------------------------------------------------------------------------
def templates(size: int = 24, room: int = 20) -> Tensor:
    """Four smooth blobs, two round and two long, at ``room^2`` places each: ``(4 room^2, 1, size, size)``, up to 1."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    found = []
    for top in range(room):
        for left in range(room):
            a, b = (v - (size - room) / 2 for v in (y - top, x - left))
            found += [torch.exp(-(a**2) / (2 * h**2) - b**2 / (2 * w**2)) for h, w in BLOBS]
    return torch.stack(found)[:, None]


def template_study(
    seeds: int, budgets: tuple[int, ...], sigma: float, report: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """NMSE of the posterior mean over truths drawn from the prior, one pixel a decision, by policy and budget."""
    prior = templates()
    op = Identity(prior.shape[1:])
    noise, most = Gaussian(sigma), max(budgets)
    candidates = Candidates.along(op, -2, -1)
    fixed = greedy_design(prior, op, noise, candidates, most)
    choices: dict[str, Policy] = {
        "random": Random(), "fixed": fixed, "entropy": Entropy(),
        "infogain": InformationGain(), "variance": Variance(), "logdet": LogDet(),
        "entropy-published": PublishedEntropy(),
    }  # fmt: skip
    flat = prior.flatten(1)
    out: dict[str, dict[str, Any]] = {}
    for name, policy in choices.items():
        errors: dict[int, list[float]] = {b: [] for b in budgets}
        for seed in range(seeds):
            rng = generator(seed, 1)
            truth = int(torch.randint(len(prior), (1,), generator=rng))
            y = flat[truth] + sigma * torch.randn(flat.shape[1], generator=rng)
            choice = generator(seed, 2)
            plan, log_weight = Belief.plan(candidates, (), most), torch.zeros(len(prior))
            for step in range(1, most + 1):
                weight = torch.softmax(log_weight, 0)
                belief = plan
                if policy.needs_belief:
                    index = torch.multinomial(weight, PARTICLES, replacement=True, generator=choice)
                    belief = plan.of_particles(prior[index], op, noise)
                (pixel,) = policy(belief, 1, choice)
                plan = plan.after([pixel])
                log_weight = log_weight - 0.5 * ((y[pixel] - flat[:, pixel]) / sigma) ** 2
                if step in errors:
                    mean = torch.softmax(log_weight, 0) @ flat
                    errors[step].append(float((mean - flat[truth]).square().sum() / flat[truth].square().sum()))
        out[name] = {f"{b} pixels": _summary(e) for b, e in errors.items()}
        report(f"templates, sigma {sigma}, {name}: " + ", ".join(f"{k} {v['mean']:.3f}" for k, v in out[name].items()))
    return out


# ---- phantoms of eight kinds -------------------------------------------------------------------------------------
class Kinds:
    """A mixture of Gaussians of low rank: ``x = m_k + L_k z + e``, e white of deviation `rest`; real images."""

    def __init__(self, size: int = 32, kinds: int = 8, rank: int = 40, rest: float = 0.01) -> None:
        self.size, self.rest = size, rest
        means, factors = [], []
        for k in range(kinds):
            drawn = torch.stack([ellipses(k, i, size) for i in range(120)]).flatten(1)
            u, s, v = torch.linalg.svd(drawn - drawn.mean(0), full_matrices=False)
            means.append(drawn.mean(0))
            factors.append((s[:rank, None] * v[:rank]) / math.sqrt(len(drawn) - 1))
        self.means, self.factors = torch.stack(means), torch.stack(factors)  # (K, d), (K, r, d)

    def sample(self, rng: torch.Generator) -> Tensor:
        """One image ``(d,)``."""
        k = int(torch.randint(len(self.means), (1,), generator=rng))
        z = torch.randn(self.factors.shape[1], generator=rng)
        return self.means[k] + z @ self.factors[k] + self.rest * torch.randn(self.means.shape[1], generator=rng)

    def posterior(self, columns: list[int], y: Tensor, sigma: float) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Weights of the kinds, and of each the posterior mean and root of the covariance of z.

        The white rest adds its variance to the noise: a real image's column has it in re and im, halved.
        """
        level = math.sqrt(sigma**2 + self.rest**2 / 2)
        logs, parts = [], []
        for m, f in zip(self.means, self.factors, strict=True):
            a = self._columns(f, columns) / level  # (r, D)
            r = (y - self._columns(m[None], columns)[0]) / level
            precision = torch.eye(len(f), dtype=torch.float64) + a @ a.mT
            root = torch.linalg.cholesky(precision)
            z = torch.cholesky_solve((a @ r)[:, None], root)[:, 0]
            logs.append(-0.5 * (r @ r - (a @ r) @ z) - root.diagonal().log().sum())
            parts.append((z, torch.linalg.inv(root).mT))
        return torch.softmax(torch.stack(logs), 0), parts

    def _columns(self, x: Tensor, columns: list[int]) -> Tensor:
        k = fft2c(x.reshape(-1, self.size, self.size).to(torch.complex64))[..., columns]
        return torch.view_as_real(k).flatten(1).double()

    def draw(self, weights: Tensor, parts: list[tuple[Tensor, Tensor]], n: int, rng: torch.Generator) -> Tensor:
        """n posterior draws ``(n, 1, size, size)`` (without the white rest)."""
        index = torch.multinomial(weights, n, replacement=True, generator=rng)
        z = torch.randn(n, self.factors.shape[1], generator=rng, dtype=torch.float64)
        x = [self.means[k] + (parts[k][0] + parts[k][1] @ z[i]).float() @ self.factors[k] for i, k in enumerate(index)]
        return torch.stack(x).reshape(n, 1, self.size, self.size)

    def mean(self, weights: Tensor, parts: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Posterior mean ``(d,)``."""
        each = [m + z.float() @ f for m, f, (z, _) in zip(self.means, self.factors, parts, strict=True)]
        return weights.float() @ torch.stack(each)


def ellipses(kind: int, number: int, size: int) -> Tensor:
    """A phantom: the ellipses of its kind, each a little moved, stretched and brightened."""
    rng, own = generator(kind, 10), generator(kind, 1000 + number)
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, size)] * 2, indexing="ij")
    image = torch.zeros(size, size)
    for i in range(6):
        place, axes = torch.rand(2, generator=rng) - 0.5, 0.15 + 0.35 * torch.rand(2, generator=rng)
        angle, level = float(torch.rand(1, generator=rng)) * math.pi, float(torch.rand(1, generator=rng)) - 0.3
        if i == 0:
            place, axes, level = place * 0.1, 0.75 + 0.15 * torch.rand(2, generator=rng), 0.6
        place = place + 0.08 * torch.randn(2, generator=own)
        axes = axes * (1 + 0.1 * torch.randn(2, generator=own))
        level = level * (1 + 0.2 * float(torch.randn(1, generator=own)))
        a = ((x - place[0]) * math.cos(angle) + (y - place[1]) * math.sin(angle)) / axes[0]
        b = ((y - place[1]) * math.cos(angle) - (x - place[0]) * math.sin(angle)) / axes[1]
        image = image + level * torch.sigmoid((1 - (a**2 + b**2).sqrt()) * 25)
    return image


def line_study(
    seeds: int, budgets: tuple[int, ...], sigma: float, report: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """PSNR of the posterior mean, one k-space column a decision, and conjugate pairs among the first six."""
    prior = Kinds()
    size, most = prior.size, max(*budgets, 6)
    real = Fourier((1, size, size))
    candidates, noise = Candidates.along(real, -1), Gaussian(sigma)
    draws = torch.stack([prior.sample(generator(i, 5)) for i in range(256)]).reshape(-1, 1, size, size)
    fixed = greedy_design(draws.to(torch.complex64), real, noise, candidates, most)
    choices: dict[str, Policy] = {
        "random": Random(), "density": VariableDensity(), "density 0.1": VariableDensity(0.1),
        "lowfrequency": LowFrequency(), "fixed": fixed, "entropy": Entropy(), "infogain": InformationGain(),
        "variance": Variance(), "logdet": LogDet(), "entropy-published": PublishedEntropy(),
    }  # fmt: skip
    out: dict[str, dict[str, Any]] = {}
    for name, policy in choices.items():
        scores: dict[int, list[float]] = {b: [] for b in budgets}
        pairs = 0
        for seed in range(seeds):
            rng, choice = generator(seed, 3), generator(seed, 4)
            x = prior.sample(rng)
            y = noise.sample(real.forward(x.reshape(1, 1, size, size).to(torch.complex64)), rng)[0, 0]
            plan = Belief.plan(candidates, (), most)
            order: list[int] = []
            for step in range(1, most + 1):
                belief = plan
                if policy.needs_belief:
                    seen = torch.view_as_real(y[:, order]).flatten().double()
                    now = prior.posterior(order, seen, sigma)
                    belief = plan.of_particles(prior.draw(*now, PARTICLES, choice).to(torch.complex64), real, noise)
                order += policy(belief, 1, choice)
                plan = plan.after(order[-1:])
                if step == 6:
                    pairs += sum((size - c) % size in order and c < size // 2 and c > 0 for c in order)
                if step in scores:
                    seen = torch.view_as_real(y[:, order]).flatten().double()
                    error = float((prior.mean(*prior.posterior(order, seen, sigma)) - x).square().mean())
                    scores[step].append(10 * math.log10(float(x.max()) ** 2 / error))
        out[name] = {f"{b} columns": _summary(v) for b, v in scores.items()} | {
            "conjugate pairs per run": pairs / seeds
        }
        report(f"lines, {name}: " + ", ".join(f"{b} columns {sum(v) / len(v):.2f} dB" for b, v in scores.items())
               + f", {pairs / seeds:.2f} pairs")  # fmt: skip
    return out


# ---- one Gaussian ------------------------------------------------------------------------------------------------
def gaussian_study(report: Callable[[str], None], size: int = 16, budget: int = 6) -> dict[str, Any]:
    """Information that each policy's columns give, over that of the greedy fixed design; exact posterior draws."""
    from invdiff.measurement import Measurement
    from invdiff.policies import factor_of
    from invdiff.priors.gaussian import GaussianPrior
    from invdiff.validation.linear_gaussian import posterior

    op, sigma = Fourier((1, size, size)), 0.1
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    places = torch.stack([y.flatten(), x.flatten()], 1).double()
    envelope = torch.exp(-(places - size / 2).square().sum(1) / (2 * (size / 4) ** 2))
    distance = torch.cdist(places, places)
    turn = torch.polar(torch.ones(size**2).double(), 0.02 * places[:, 0] * places[:, 1] + 0.3 * places[:, 1])
    prior = GaussianPrior(
        torch.zeros(1, size, size, dtype=torch.complex64),
        turn[:, None] * (envelope[:, None] * torch.exp(-distance / 3) * envelope) * turn.conj(), "complex",
    )  # fmt: skip
    noise, candidates = Gaussian(sigma), Candidates.along(op, -1)
    exact = greedy_design(prior, op, noise, candidates, budget)
    whole = Belief.plan(candidates, (), budget).of_gaussian(factor_of(prior).to(torch.complex64), op, noise)
    best = whole.information(exact.order)
    truth = prior.sample(1, generator(0))
    data = noise.sample(op.forward(truth), generator(1))
    out: dict[str, Any] = {"greedy fixed": {"columns": exact.order, "information": best}}
    for name, policy, particles in (
        ("exact covariance", LogDet(), 0), ("logdet", LogDet(), 16), ("logdet", LogDet(), 256),
        ("entropy", Entropy(), 16), ("entropy", Entropy(), 256), ("variance", Variance(), 256),
    ):  # fmt: skip
        plan, order, rng = Belief.plan(candidates, (), budget), [], generator(2)
        for _ in range(budget):
            if order:
                measurement = Measurement(*_restricted(candidates, op, data[0], order), noise)
                found = posterior(prior, measurement)
                if particles:
                    x = found.sample(particles, rng).to(torch.complex64)
                else:
                    values, directions = torch.linalg.eigh(found.covariance)
                    columns = (directions * values.clamp_min(0).sqrt()).mT.reshape(-1, *prior.sample_shape, 2)
                    x = torch.view_as_complex(columns.contiguous()).to(torch.complex64)
            else:
                x = prior.sample(particles, rng) if particles else factor_of(prior).to(torch.complex64)
            belief = plan.of_particles(x, op, noise) if particles else plan.of_gaussian(x, op, noise, informed=True)
            order += policy(belief, 1, rng)
            plan = plan.after(order[-1:])
        label = f"{name}, {particles} particles" if particles else name
        out[label] = {"columns": order, "share": whole.information(order) / best}
        report(f"gaussian, {label}: {out[label]['share']:.4f} of the greedy information, {order} ({exact.order})")
    return out


def _restricted(candidates: Candidates, op: Fourier, y: Tensor, order: list[int]) -> tuple[Tensor, Any]:
    some, data = candidates.restrict(op, y, order)
    return data, some


def _summary(values: list[float]) -> dict[str, float]:
    v = torch.tensor(values, dtype=torch.float64)
    return {"mean": float(v.mean()), "standard_error": float(v.std() / math.sqrt(len(v))) if len(v) > 1 else math.nan}
