"""The report: one HTML file that holds everything, to look at draws, their spread and their fit to the data."""

from __future__ import annotations

import html
import json
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from invdiff.errors import InputError
from invdiff.files import replacing
from invdiff.pictures import FIT, GREY, HEAT, data_uri, scale_bar
from invdiff.posterior import Posterior
from invdiff.report.charts import histogram, profile
from invdiff.report.images import Images, images_of, thinned
from invdiff.report.words import plain_words, settings_table

__all__ = ["MOST", "html_report"]

MOST = 20 * 2**20  # bytes of the file


def html_report(posterior: Posterior, path: str | Path, *, title: str = "", most: int = MOST) -> Path:
    """Write a report that works without a network: slices and draws to leaf through, maps, data fit, settings.

    Images and draws share one grey scale, the maps of spread (standard deviation, half width of the 90 % interval,
    trajectory deviation) one colour scale, both in the unit of x. Of large posteriors slices, draws and pixels are
    thinned out until the file is at most `most` bytes, and the page says so.

    Args:
        posterior: of images or fields: ``(draw, [problem,] channel, [z,] y, x)``.
        path: the HTML file.
        title: above all; the input's name if not given.
        most: bytes, at least 1 MiB.

    Raises:
        InputError: the draws are no images, or `most` is too small. FileError: the file cannot be written.
    """
    if most < 2**20:
        raise InputError(f"the report was to be at most {most} bytes; it expects at least {2**20}")
    images = images_of(posterior)
    budget = most
    while True:
        page = _page(posterior, thinned(images, int(0.7 * budget)), title)
        if len(page.encode()) <= most or budget < 2**16:
            break
        budget = int(0.8 * budget)
    with replacing(path) as part:
        part.write_text(page, encoding="utf-8")
    return Path(path)


def _page(posterior: Posterior, images: Images, title: str) -> str:
    attrs = posterior.dataset.attrs
    title = title or Path(str(attrs.get("input", attrs.get("file", "posterior")))).name
    low, high = _range([images.mean], 0.999)
    spread_high = _range(list(images.spread.values()), 0.998)[1] if images.spread else 1.0
    spread_high = spread_high if spread_high > 0 else 1.0
    pictures: dict[str, Any] = {
        "labels": images.labels,
        "mean": [data_uri(v, low, high, GREY) for v in images.mean],
        "draws": [[data_uri(v, low, high, GREY) for v in one] for one in images.draws],
        "spread": {name: [data_uri(v, 0, spread_high, HEAT) for v in each] for name, each in images.spread.items()},
        "misfit": [data_uri(v, 0, 3, FIT) for v in images.misfit] if images.misfit is not None else [],
    }
    unit = images.unit or "arbitrary units"
    columns = "".join(_figure(f"spread-{k}", name) for k, name in enumerate(images.spread))
    content = {
        "title": html.escape(title),
        "summary": html.escape(_summary(posterior, images)),
        "warnings": "".join(f"<li>{html.escape(line)}</li>" for line in plain_words(posterior)),
        "notes": "".join(f"<p class=note>{html.escape(line)}</p>" for line in images.left_out),
        "grey_bar": _bar(GREY, low, high, unit, "images and draws"),
        "heat_bar": _bar(HEAT, 0, spread_high, unit, "all maps of spread") if images.spread else "",
        "spread": columns,
        "fit": _fit(images),
        "scores": _scores(posterior.diagnostics.get("rows", [])),
        "settings": settings_table(posterior),
        "data": json.dumps(pictures).replace("</", "<\\/"),
        "slices": str(len(images.labels) - 1),
        "middle": str(len(images.labels) // 2),
        "draw_count": str(len(images.draws)),
        "one_slice": "hidden" if len(images.labels) < 2 else "",
        "one_draw": "hidden" if len(images.draws) < 2 else "",
        "aspect": f"{images.aspect:.6g}",
    }
    template = files("invdiff.report").joinpath("page.html.template").read_text(encoding="utf-8")
    return Template(template).substitute(content)


def _summary(posterior: Posterior, images: Images) -> str:
    sizes = posterior.draws.sizes
    attrs = posterior.dataset.attrs
    size = " x ".join(str(sizes[d]) for d in ("z", "y", "x") if d in sizes)
    parts = [f"{sizes['draw']} draw{'s' if sizes['draw'] > 1 else ''} of {size} pixels"]
    if sizes.get("problem", 1) > 1:
        parts.append(f"{sizes['problem']} slices")
    parts += [f"{name} {attrs[key]}" for name, key in (("method", "sampler"), ("seed", "seed")) if key in attrs]
    return ", ".join(parts)


def _figure(name: str, caption: str) -> str:
    return f'<figure><img id="{name}" alt="" class="map"><figcaption>{html.escape(caption)}</figcaption></figure>'


def _bar(colours: str, low: float, high: float, unit: str, what: str) -> str:
    ticks = "".join(f"<span>{_short(low + k / 4 * (high - low))}</span>" for k in range(5))
    label = f"Scale of {what}: {_short(low)} to {_short(high)} {unit}"
    return (
        f'<div class="bar"><img src="{scale_bar(colours)}" alt="{html.escape(label)}">'
        f'<div class="ticks">{ticks}</div><div class="unit">{html.escape(f"{what}, {unit}")}</div></div>'
    )


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _fit(images: Images) -> str:
    if not images.misfit_values.size:
        return "<p>The file holds no comparison with the data.</p>"
    parts = []
    if images.misfit is not None:
        parts.append(
            f'<figure><img id="misfit" alt="" class="wide"><figcaption>{html.escape(images.misfit_axes)}</figcaption>'
            f"{_bar(FIT, 0, 3, 'noise standard deviations', 'misfit of the data')}</figure>"
        )
    parts.append(histogram(images.misfit_values))
    if len(images.chi2) > 1:
        parts.append(profile(images.chi2, images.labels_all))
    return "".join(parts)


def _scores(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    head = "<tr><th scope=col>method</th><th scope=col>PSNR (dB)</th><th scope=col>SSIM</th>"
    head += "<th scope=col>coverage of 90 % intervals</th></tr>"
    lines = []
    for row in rows:
        cells = [_cell(row.get(key), digits) for key, digits in (("psnr", 2), ("ssim", 3), ("coverage90", 3))]
        lines.append(f"<tr><th scope=row>{html.escape(str(row['method']))}</th>{''.join(cells)}</tr>")
    table = f"<table><caption>Means over slices</caption>{head}{''.join(lines)}</table>"
    return f'<section aria-labelledby="scores"><h2 id="scores">Against the reference</h2>{table}</section>'


def _cell(value: Any, digits: int) -> str:
    return "<td></td>" if value is None else f"<td>{float(value):.{digits}f}</td>"


def _range(groups: list[NDArray[Any]], quantile: float) -> tuple[float, float]:
    values = np.concatenate([g[np.isfinite(g)].ravel() for g in groups])
    if values.size == 0:
        return 0.0, 1.0
    low, high = (float(q) for q in np.quantile(values, [1 - quantile, quantile]))
    if low > -0.02 * abs(high) and low < 0.25 * high:
        low = 0.0  # images whose background is nearly zero begin there
    return (low, high) if high > low else (low, low + 1.0)
