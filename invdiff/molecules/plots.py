"""Plots of a run: free energy with error band, sampler against chains, convergence, bias, Ramachandran."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invdiff.files import replacing
from invdiff.metrics.free_energy import pmf_of_samples
from invdiff.molecules.keeping import SeedRun
from invdiff.molecules.systems import Case

__all__ = ["bins", "draw_plots", "profile", "unit"]

_BINS = 60


def draw_plots(case: Case, runs: list[SeedRun], figures: dict[str, Any], folder: Path) -> None:
    """Write the plots of a finished run as PNG."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    from matplotlib.figure import Figure

    def page(name: str, draw: Any, width: float = 6.0) -> None:
        figure = Figure(figsize=(width, 4.0), dpi=120, layout="constrained")
        draw(figure)
        with replacing(folder / name) as part:
            figure.savefig(part, format="png")

    one = len(case.config.variables) == 1
    page("free_energy.png", lambda f: _profile_page(f, case, runs) if one else _surface_page(f, case, runs))
    page("histogram.png", lambda f: _histogram_page(f, case, runs), 4.0 * len(case.config.variables) + 2)
    page("convergence.png", lambda f: _convergence_page(f, case, runs, figures))
    if case.structure is not None and len(case.structure.symbols) > 10:
        from invdiff.molecules.ramachandran import dihedrals, ramachandran

        if dihedrals(case.structure) is not None:
            page("ramachandran.png", lambda f: ramachandran(f, case, runs))


def profile(runs: list[SeedRun], edges: Tensor, kT: float = 1.0) -> tuple[Tensor, Tensor]:  # noqa: N803
    """Free energy along one variable from all chains, and its standard error, in the unit of kT.

    The error is by blocks: chains of all seeds in ten groups, leaving out one at a time.
    """
    s = torch.cat([run.chains["s"] for run in runs])
    v = torch.cat([run.chains["w"] for run in runs])
    blocks = [torch.arange(len(s))[k::10] for k in range(min(10, len(s)))]
    whole = pmf_of_samples(s, v, [edges])
    low = whole < 6  # what the profiles have in common, where there are samples in plenty
    left = []
    for block in blocks:
        others = torch.ones(len(s), dtype=torch.bool)
        others[block] = False
        f = pmf_of_samples(s[others], v[others], [edges])
        left.append(f - f[low & torch.isfinite(f)].mean())
    parts, n = torch.stack(left), len(blocks)
    return kT * whole, kT * ((n - 1) / n * (parts - parts.mean(0)).square().sum(0)).sqrt()


def unit(case: Case) -> tuple[str, float]:
    """Return the word for the unit of free energies in files and plots, and kT in it."""
    return ("kT", 1.0) if case.config.temperature is None else ("kJ/mol", case.target.kT)


def _label(case: Case, index: int) -> str:
    entry = case.config.variables[index]
    assert case.target.variable is not None
    unit = case.target.variable.units[index]
    name = entry.kind if entry.kind != "coordinate" else f"x{entry.index + 1}"
    return f"{name} ({unit})" if unit != "1" else name


def bins(runs: list[SeedRun], index: int) -> Tensor:
    """Bins over the bias' axis, or over what the chains saw where there is no bias."""
    bias, s = runs[0].bias, torch.cat([run.chains["s"][..., index].flatten() for run in runs])
    low, high = (bias.axes[index].low, bias.axes[index].high) if bias is not None else (s.min(), s.max() + 1e-6)
    return torch.linspace(float(low), float(high), _BINS + 1, dtype=torch.float64)


def _profile_page(figure: Any, case: Case, runs: list[SeedRun]) -> None:
    axes = figure.subplots()
    word, kT = unit(case)  # noqa: N806
    edges = bins(runs, 0)
    f, error = profile(runs, edges, kT)
    middle = 0.5 * (edges[1:] + edges[:-1])
    ok = torch.isfinite(f) & torch.isfinite(error)
    axes.fill_between(middle[ok], (f - 2 * error)[ok], (f + 2 * error)[ok], alpha=0.3, label="2 standard errors")
    axes.plot(middle[ok], f[ok], label="refined")
    for run in runs:
        if run.bias is not None:
            own = kT * run.bias.free_energy()
            axes.plot(run.bias.axes[0].grid(), own, ":", lw=1, label="bias alone" if run is runs[0] else None)
    truth = _truth(case, edges)
    if truth is not None:
        axes.plot(middle, kT * truth, "k--", lw=1, label="quadrature")
    axes.set(xlabel=_label(case, 0), ylabel=f"free energy ({word})", title=case.config.name)
    if bool(ok.any()):
        axes.set_ylim(-0.5 * kT, float(f[ok].max()) + 3 * kT)
    axes.legend(fontsize=8)


def _surface_page(figure: Any, case: Case, runs: list[SeedRun]) -> None:
    axes = figure.subplots()
    word, kT = unit(case)  # noqa: N806
    edges = [bins(runs, i) for i in range(2)]
    s = torch.cat([run.chains["s"].flatten(0, 1) for run in runs])[:, :2]
    v = torch.cat([run.chains["w"].flatten() for run in runs])
    f = kT * pmf_of_samples(s, v, edges)
    drawn = np.ma.masked_invalid(f.T.numpy())
    image = axes.pcolormesh(edges[0], edges[1], drawn, cmap="viridis", vmax=min(float(drawn.max()), 16 * kT))
    middle = [0.5 * (e[1:] + e[:-1]) for e in edges]
    axes.contour(middle[0], middle[1], drawn, levels=np.arange(0, 16, 2) * kT, colors="w", linewidths=0.5)
    figure.colorbar(image, label=f"free energy ({word})")
    axes.set(xlabel=_label(case, 0), ylabel=_label(case, 1), title=case.config.name)


def _truth(case: Case, edges: Tensor) -> Tensor | None:
    """The exact profile of an analytic energy in the plane, on bins of the variable."""
    plane = case.plane()
    if plane is None:
        return None
    potential, limits = plane
    axes = [torch.linspace(low, high, 801, dtype=torch.float64) for low, high in limits]
    x = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    return pmf_of_samples(case.target.variables(x), -potential(x), [edges])


def _histogram_page(figure: Any, case: Case, runs: list[SeedRun]) -> None:
    count = len(case.config.variables)
    for i, axes in enumerate(np.atleast_1d(figure.subplots(1, count))):
        edges = bins(runs, i).numpy()
        draws = torch.cat([run.draws["s"][:, i] for run in runs]).numpy()
        chains = torch.cat([run.chains["s"][..., i].flatten() for run in runs]).numpy()
        axes.hist(draws, edges, density=True, histtype="step", label="sampler")
        axes.hist(chains, edges, density=True, histtype="step", label="chains from it")
        axes.set(xlabel=_label(case, i), ylabel="density in the bias")
    axes.legend(fontsize=8)


def _convergence_page(figure: Any, case: Case, runs: list[SeedRun], figures: dict[str, Any]) -> None:
    axes = figure.subplots()
    word, kT = unit(case)  # noqa: N806
    for run in runs:
        for phase, style in (("bias", ":"), ("refined", "-")):
            curve = [p for p in run.curve if p["phase"] == phase and math.isfinite(p["delta_f_kT"])]
            label = phase if run is runs[0] else None
            axes.plot([p["energies"] for p in curve], [kT * p["delta_f_kT"] for p in curve], style, label=label)
    exact = figures["exact_kT"]
    if exact is not None and math.isfinite(exact):
        axes.axhline(kT * exact, color="k", ls="--", lw=1, label="exact")
    last = max(run.energies["total"] for run in runs)
    value, error = figures["delta_f_kT"], figures["stderr_kT"]
    if math.isfinite(value):
        bar = [2 * kT * error] if math.isfinite(error) else None
        axes.errorbar([last], [kT * value], bar, fmt="o", label="result")
    else:
        axes.plot([last], [0.0], alpha=0)  # a logarithmic axis needs something to span
    for i, points in enumerate(figures.get("metadynamics", {}).get("curves", [])):
        label = None if i else "metadynamics"
        axes.plot([p["energies"] for p in points], [p["delta_f_kj"] for p in points], "C3", lw=0.7, label=label)
    axes.set_xscale("log")
    axes.set(xlabel="energies evaluated", ylabel=f"F(b) - F(a) ({word})")
    axes.set_title(case.config.name if math.isfinite(value) else f"{case.config.name}: one state was never seen")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
