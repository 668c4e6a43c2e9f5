"""Pictures of active acquisitions: images, spreads, and in which order the lines were measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from invdiff.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

    from invdiff.samplers.active import Acquisition

__all__ = ["acquisition_panel", "order_image"]


def acquisition_panel(
    runs: Mapping[str, Acquisition], reference: Tensor, path: str | Path, scores: Mapping[str, float] | None = None
) -> Path:
    """Write one column a policy: mean, spread, order of acquisition; and the entropy after each decision.

    Args:
        runs: acquisitions by name.
        reference: ``(1, H, W)``, shown first.
        path: the PNG file.
        scores: NMSE by name, for the titles.

    Raises:
        FileError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.6 * (len(runs) + 1), 7.6), layout="constrained", dpi=110)
    axes = figure.subplots(3, len(runs) + 1, squeeze=False)
    top = float(np.quantile(np.abs(reference.numpy()), 0.998))
    spreads = {name: run.posterior.std().values[0] for name, run in runs.items()}
    wide = max(float(np.quantile(s, 0.998)) for s in spreads.values()) or 1.0
    axes[0, 0].imshow(np.abs(reference[0].numpy()), cmap="gray", vmin=0, vmax=top)
    axes[0, 0].set_title("reference", fontsize=9)
    for k, (name, run) in enumerate(runs.items(), start=1):
        note = f", NMSE {scores[name]:.4f}" if scores and name in scores else ""
        axes[0, k].imshow(np.abs(run.posterior.mean().values[0]), cmap="gray", vmin=0, vmax=top)
        axes[0, k].set_title(name + note, fontsize=9)
        axes[1, k].imshow(spreads[name], cmap="magma", vmin=0, vmax=wide)
        axes[1, k].set_title(f"std, entropy {run.entropy[-1]:.4g} nats", fontsize=9)
        last = axes[2, k].imshow(order_image(run), cmap="viridis", aspect="auto", interpolation="nearest")
        axes[2, k].set_title(f"order of {len(run.order)} lines", fontsize=9)
        axes[2, k].set_facecolor("0.85")
        if k == len(runs):
            figure.colorbar(last, ax=axes[2, k], fraction=0.06, label="number")
    for ax in (*axes[0], *axes[1], *axes[2, 1:]):
        ax.set_xticks([])
        ax.set_yticks([])
    axes[1, 0].set_axis_off()
    _entropies(axes[2, 0], runs)
    with replacing(path) as part:
        figure.savefig(part, format="png")
    return Path(path)


def order_image(run: Acquisition) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The last two axes of the range with the number that each datum came as: 0 at the beginning, NaN for none."""
    number = np.full(run.candidates.count + 1, np.nan)  # the last one for data that are never measured
    for place, group in enumerate(run.order):
        number[group] = max(0, place - run.initial + 1)
    labels = run.candidates.labels.numpy()
    image = number[labels].reshape(-1, *(labels.shape[-2:] if labels.ndim > 1 else (1, *labels.shape)))[0]
    shape = tuple(run.mask_shape[-2:]) if len(run.mask_shape) > 1 else (1, *run.mask_shape)
    return np.broadcast_to(image, shape).copy()


def _entropies(ax: Axes, runs: Mapping[str, Acquisition]) -> None:
    for name, run in runs.items():
        taken = [run.initial]
        for decision in run.decisions:
            taken.append(taken[-1] + len(decision.groups))
        taken = taken[: len(run.entropy) - 1] + [len(run.order)]
        ax.plot(taken, run.entropy, marker="o", markersize=3, linewidth=1, label=name)
    ax.set_xlabel("lines measured", fontsize=8)
    ax.set_title("entropy of the belief (nats)", fontsize=9)
    ax.tick_params(labelsize=7)
    ax.legend(fontsize=6)
