"""The pictures of `invdiff reconstruct`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from invdiff.cli.tables import TITLES
from invdiff.operators.ct.tomography import Tomography
from invdiff.reconstruction.result import Reconstruction
from invdiff.report.panel import panel

__all__ = ["picture"]


def picture(done: Reconstruction, path: Path) -> None:
    """Write mean, spread, classical reconstructions and data fit of the middle problem, cut to the part of interest."""
    posterior, measurement = done.posterior, done.measurement
    middle = measurement.n_problems // 2 if measurement.batched else None
    several = posterior.draws.sizes["draw"] > 1
    full = tuple(posterior.draws.shape[-2:])
    size = tuple(measurement.meta.get("recon_size") or full)
    rows, columns = (slice(n // 2 - m // 2, n // 2 - m // 2 + m) for n, m in zip(full, size, strict=True))

    def cut(x: Any) -> NDArray[Any]:
        image: NDArray[Any] = np.asarray(x if middle is None else x[middle])[0, rows, columns]  # first channel
        return image

    coords = {
        name: (dims, np.asarray(values)[rows if name == "y" else columns], *rest)
        for name, (dims, values, *rest) in measurement.coords.items()
        if name in ("y", "x")
    }
    method = str(posterior.dataset.attrs["method"])
    classical = {
        TITLES.get(name, name): cut(x.cpu() if middle is not None else x[0].cpu()) for name, x in done.baselines.items()
    }
    held = posterior.dataset.attrs.get("holdout_fraction")
    note = f", {held:.0%} of the data held out" if held else ""
    first = {} if method in done.baselines else {"posterior mean": cut(posterior.mean().values)}
    panel(
        first | classical,
        path,
        spread={"posterior std": cut(posterior.std().values)} if several else None,
        residual={"misfit of the data": done.residual()},
        coords=coords,
        unit=str(posterior.draws.attrs.get("units", "")),
        sinogram=isinstance(measurement.operator, Tomography),
        heading=f"{Path(str(measurement.meta.get('file', ''))).name}  {method}{note}",
    )
