"""Small charts as SVG, to stand inside a page."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["histogram", "profile"]

_W, _H, _LEFT, _BOTTOM = 420, 180, 62, 36


def histogram(values: NDArray[Any], top: float = 4.0) -> str:
    """How often each misfit occurs, in noise standard deviations; what is above `top` counts in the last bin."""
    counts, _ = np.histogram(np.minimum(values, top * (1 - 1e-6)), bins=40, range=(0, top))
    share = counts / max(1, counts.sum())
    high = float(share.max()) or 1.0
    width = (_W - _LEFT - 8) / len(share)
    bars = "".join(
        f'<rect x="{_LEFT + k * width:.1f}" y="{_y(v, high):.1f}" width="{width - 1:.1f}"'
        f' height="{_H - _BOTTOM - _y(v, high):.1f}"/>'
        for k, v in enumerate(share)
    )
    ticks = [(_LEFT + t / top * (_W - _LEFT - 8), f"{t:g}" if t < top else f"{t:g}+") for t in range(int(top) + 1)]
    mean = float(np.mean(np.square(values))) ** 0.5 if values.size else 0.0
    title = f"Misfit of single data (root mean square {mean:.3g}; 1 is what noise explains)"
    return _frame(bars, ticks, "noise standard deviations", "share of the data", high, title)


def profile(chi2: Sequence[float], labels: Sequence[str]) -> str:
    """Mean squared misfit of each slice, with a line at 1."""
    high = max(1.2, float(np.nanmax(chi2)) * 1.05)
    step = (_W - _LEFT - 8) / len(chi2)
    points = [(_LEFT + (k + 0.5) * step, _y(v, high)) for k, v in enumerate(chi2) if np.isfinite(v)]
    marks = f'<line class="one" x1="{_LEFT}" x2="{_W - 8}" y1="{_y(1, high):.1f}" y2="{_y(1, high):.1f}"/>'
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    marks += f'<polyline points="{path}"/>' + "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in points)
    every = max(1, len(chi2) // 6)
    names = [label.split(" ")[1] if " " in label else label for label in labels]
    ticks = [(_LEFT + (k + 0.5) * step, names[k] if k < len(names) else str(k)) for k in range(0, len(chi2), every)]
    return _frame(marks, ticks, "slice", "mean squared misfit", high, "Misfit by slice (1 is what noise explains)")


def _y(value: float, high: float) -> float:
    return (_H - _BOTTOM) - value / high * (_H - _BOTTOM - 12)


def _frame(marks: str, ticks: Sequence[tuple[float, str]], x: str, y: str, high: float, title: str) -> str:
    base = _H - _BOTTOM
    below = "".join(f'<text x="{at:.1f}" y="{base + 14}" class="mid">{html.escape(t)}</text>' for at, t in ticks)
    side = "".join(
        f'<text x="{_LEFT - 5}" y="{_y(v, high) + 4:.1f}" class="end">{v:.2g}</text>' for v in (0, high / 2, high)
    )
    return (
        f'<figure><svg viewBox="0 0 {_W} {_H}" role="img" aria-label="{html.escape(title)}">{marks}'
        f'<line class="axis" x1="{_LEFT}" x2="{_W - 8}" y1="{base}" y2="{base}"/>{below}{side}'
        f'<text x="{(_W + _LEFT) / 2}" y="{_H - 4}" class="mid">{html.escape(x)}</text>'
        f'<text transform="translate(12 {base / 2 + 6}) rotate(-90)" class="mid">{html.escape(y)}</text></svg>'
        f"<figcaption>{html.escape(title)}</figcaption></figure>"
    )
