"""The figures of a reconstruction as text."""

from __future__ import annotations

from typing import Any

__all__ = ["TITLES", "table"]

TITLES = {
    "zero_filled": "zero-filled",
    "cg_sense": "CG-SENSE",
    "tv_sense": "TV-SENSE",
    "wavelet_sense": "wavelet-SENSE",
    "posterior_mean": "posterior mean",
    "fbp": "FBP",
    "fdk": "FDK",
    "cgls": "CGLS",
    "tv": "TV",
    "cg": "CG",
    "wavelet": "wavelet",
}

_NOTES = {
    "holdout_calibration": "(1: the spread of the draws is what their error is)",
    "chi2_ratio": "(1: the draws explain the data to the noise)",
    "nfe": "",
    "seconds": "",
    "peak_memory_mib": "",
}


def table(figures: dict[str, Any]) -> str:
    """Scores against the truth (the mean over slices), errors of held-out data, and the rest."""
    lines = []
    means = [row for row in figures.get("rows", ()) if row["slice"] == "mean"]
    if means:
        lines.append(f"{'against the ' + figures['reference']:<34}{'PSNR (dB)':>10}{'SSIM':>8}{'coverage':>10}")
        for row in means:
            scores = [_number(row[key], width) for key, width in (("psnr", 10.2), ("ssim", 8.3), ("coverage90", 10.3))]
            lines.append(f"{TITLES.get(row['method'], row['method']):<34}{''.join(scores)}")
        lines.append("")
    if "holdout_nrmse" in figures:
        lines.append(f"{'':<18}{'error of held-out data (NRMSE)':>32}")
        lines += [f"{TITLES.get(name, name):<18}{value:>32.4f}" for name, value in figures["holdout_nrmse"].items()]
        lines.append("")
    for name, note in _NOTES.items():
        if figures.get(name) is not None:
            lines.append(f"{name.replace('_', ' '):<20} {figures[name]:>8.4g}  {note}".rstrip())
    lines += [f"note: {line}" for line in figures.get("warnings", ())]
    return "\n".join(lines)


def _number(value: float | None, width: float) -> str:
    return f"{'':>{int(width)}}" if value is None else f"{value:>{width}f}"
