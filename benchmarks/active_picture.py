"""Pictures of the study: which lines were measured, and in which order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from invdiff.files import replacing


def masks(study: dict[str, Any], path: Path) -> None:
    """One row a group of slices, one tile a policy: slices downwards, lines across, the colour says when."""
    groups = {k: [r for r in rows.values() if r] for k, rows in study["rows"].items()}
    groups = {k: rows for k, rows in groups.items() if rows}
    names = list(dict.fromkeys(n for rows in groups.values() for r in rows for n in r))
    figure = Figure(figsize=(2.3 * len(names), 2.2 * len(groups) + 0.3), layout="constrained", dpi=100)
    tiles = figure.subplots(len(groups), len(names), squeeze=False)
    width = study["settings"]["size"]
    for row, (group, rows) in zip(tiles, groups.items(), strict=True):
        for ax, name in zip(row, names, strict=True):
            if not any(name in r for r in rows):
                ax.set_axis_off()
                continue
            picture = np.full((len(rows), width), np.nan)
            for i, r in enumerate(rows):
                for number, line in enumerate(r.get(name, {}).get("order", [])):
                    picture[i, line] = number
            ax.imshow(picture, aspect="auto", cmap="viridis", interpolation="nearest")
            ax.set_facecolor("0.9")
            ax.set_title(f"{name}, {group}", fontsize=8)
            ax.tick_params(labelsize=6)
    tiles[-1, 0].set_xlabel("line of k-space", fontsize=7)
    tiles[-1, 0].set_ylabel("slice", fontsize=7)
    with replacing(path) as part:
        figure.savefig(part, format="png")
