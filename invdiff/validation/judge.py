"""All measures of one sampler's draws on one problem, beside what exact draws, as many, score."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from invdiff.validation.case import Case
from invdiff.validation.classifier import c2st
from invdiff.validation.directions import coverage, squared_bias, std_ratio
from invdiff.validation.linear_gaussian import components
from invdiff.validation.sliced import project, slices, wasserstein
from invdiff.validation.stein import kernel_stein, posterior_score

__all__ = ["Judge"]

SETS = 4  # independent sets of exact draws that distances are averaged over
SLICES = 500
FEW = 40  # draws below which a classifier has nothing to learn from
MOST = 2000  # points of the measures that compare all pairs


class Judge:
    """Measures sets of `n` draws against one problem's exact posterior.

    ``judge(draws, unit)`` returns the measures by name; NaN where one does not apply:

    - ``sw1, sw2``: sliced distances to exact draws (mean of 4 sets), ``*_floor``: between exact sets.
    - ``mode_tv``: half the sum of errors of the modes' weights, ``mode_tv_floor`` the same of exact draws. A draw
      counts for component k of the prior with ``p(k | x)``, so its mean over exact draws is ``p(k | y)``.
    - ``bias2``: mean over directions of the squared bias in exact deviations, sampling noise removed; ``std_ratio``;
      ``coverage50, coverage90``; ``*_seen`` over the directions that the data determine.
    - ``chi2_ratio``: chi2 of the draws over its expectation for exact ones.
    - ``c2st``: accuracy of a classifier; ``ksd, ksd_floor``: kernel Stein discrepancy.
    """

    def __init__(self, case: Case, n: int, rng: torch.Generator) -> None:
        self.case, self.n = case, n
        sets = [case.exact.sample(n, rng) for _ in range(SETS)]
        first = components(sets[0])
        size = first.shape[1]
        self.slices = slices(size, SLICES if size <= 10_000 else 100, rng)
        self.projected = [project(components(s), self.slices) for s in sets]
        pairs = [wasserstein(a, b) for a, b in itertools.combinations(self.projected, 2)]
        self.floor = [sum(p[i] for p in pairs) / len(pairs) for i in range(2)]
        self.first = first[:MOST]
        few = first[: min(n, 500)]
        self.width = float(torch.pdist(few).median()) if n > 1 else 1.0
        self.chi2 = case.chi2 if case.chi2 is not None else float(torch.cat([self._chi2(s) for s in sets]).mean())
        self.ksd_floor = self._ksd(sets[0])
        self.tv_floor = sum(self._mode_tv(s) for s in sets) / SETS

    def __call__(self, draws: Tensor, unit: int = 1) -> dict[str, float]:
        """Judge draws ``(n, *event)`` of which each `unit` in a row depend on each other."""
        values, law, seen = self.case.directions(draws), self.case.marginals, self.case.seen
        parts = components(draws)
        projected = project(parts, self.slices)
        distances = [wasserstein(projected, exact) for exact in self.projected]
        bias2 = squared_bias(values, law, unit)
        known = type(law)(law.weights, law.means[:, seen], law.stds[:, seen])
        return {
            "sw1": sum(d[0] for d in distances) / SETS,
            "sw1_floor": self.floor[0],
            "sw2": sum(d[1] for d in distances) / SETS,
            "sw2_floor": self.floor[1],
            "mode_tv": self._mode_tv(draws),
            "mode_tv_floor": self.tv_floor,
            "bias2": float(bias2.mean()),
            "bias2_seen": float(bias2[seen].mean()),
            "std_ratio": std_ratio(values, law),
            "std_ratio_seen": std_ratio(values[:, seen], known) if bool(seen.any()) else math.nan,
            "coverage50": coverage(values, law, 0.5),
            "coverage90": coverage(values, law, 0.9),
            "chi2_ratio": float(self._chi2(draws).mean()) / self.chi2,
            "c2st": c2st(parts[:MOST], self.first) if len(draws) >= FEW else math.nan,
            "ksd": self._ksd(draws),
            "ksd_floor": self.ksd_floor,
        }

    def _chi2(self, draws: Tensor) -> Tensor:
        wide = self.case.measurement.to(torch.float64)
        return wide.chi2(draws.to(torch.complex128 if draws.is_complex() else torch.float64))

    def _ksd(self, draws: Tensor) -> float:
        part = draws[:MOST]
        score = posterior_score(self.case.prior, self.case.measurement, part)
        return kernel_stein(components(part), score, self.width)

    def _mode_tv(self, draws: Tensor) -> float:
        shares = getattr(self.case.prior, "responsibilities", None)
        if self.case.mode_weights is None or shares is None:
            return math.nan
        found = shares(draws, torch.zeros(1, dtype=torch.float64)).double().mean(0)
        return float(0.5 * (found - self.case.mode_weights).abs().sum())
