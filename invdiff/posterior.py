"""The answer: draws of the posterior as an xarray Dataset, with statistics, diagnostics and provenance."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from invdiff.errors import FileError, FormatError, InputError, UnknownNameError
from invdiff.files import existing, replacing
from invdiff.hdf5 import check_heaps

if TYPE_CHECKING:
    import xarray as xr

    from invdiff.datasets.volume import Volume

__all__ = ["Posterior"]

_SPATIAL = {1: ("y",), 2: ("y", "x"), 3: ("z", "y", "x")}


class Posterior:
    """Draws of x given the data.

    `dataset` holds ``draws`` with dimensions ``(draw, [problem,] *event)``: a vector's event is ``component``, an
    image's ``channel, [z,] y, x``. Weighted draws come with ``log_weight``; ``expectation`` is there where a better
    estimate of the mean than that of the draws was made from them. `diagnostics` is a plain dictionary.
    """

    def __init__(self, dataset: xr.Dataset, diagnostics: Mapping[str, Any] | None = None) -> None:
        if "draws" not in dataset or dataset["draws"].dims[:1] != ("draw",):
            raise InputError("a Posterior's dataset needs a variable 'draws' whose first dimension is 'draw'")
        self.dataset, self.diagnostics = dataset, dict(diagnostics or {})

    @classmethod
    def from_draws(
        cls,
        draws: Tensor,
        coords: Mapping[str, Any] | None = None,
        attrs: Mapping[str, Any] | None = None,
        diagnostics: Mapping[str, Any] | None = None,
        batched: bool = False,
        log_weight: Tensor | None = None,
        expectation: Tensor | None = None,
    ) -> Posterior:
        """Wrap draws ``(draws, *event)`` or, batched, ``(draws, problems, *event)``.

        Log-weights come without the event, the expectation without the draws.
        """
        import xarray as xr

        event = draws.ndim - (2 if batched else 1)
        inner = ("component",) if event == 1 else ("channel", *_SPATIAL[event - 1])
        dims = ("draw", *(("problem",) if batched else ()), *inner)
        array = xr.DataArray(draws.detach().cpu().resolve_conj().numpy(), dims=dims, name="draws")
        fitting = {k: v for k, v in (coords or {}).items() if k in dims}
        content = {"draws": array}
        if log_weight is not None:
            content["log_weight"] = xr.DataArray(log_weight.detach().cpu().numpy(), dims=dims[: log_weight.ndim])
        if expectation is not None:
            content["expectation"] = xr.DataArray(expectation.detach().cpu().resolve_conj().numpy(), dims=dims[1:])
        return cls(xr.Dataset(content, coords=fitting, attrs=dict(attrs or {})), diagnostics)

    # ---- statistics -------------------------------------------------------------------------------------------
    @property
    def draws(self) -> xr.DataArray:
        """The draws, first dimension ``draw``."""
        return self.dataset["draws"]

    @property
    def weights(self) -> xr.DataArray:
        """Weights of the draws, of sum 1 over ``draw`` (equal where none are stored)."""
        import xarray as xr

        n = self.dataset.sizes["draw"]
        if "log_weight" not in self.dataset:
            return xr.DataArray(np.full(n, 1 / n), dims="draw")
        w = xr.DataArray(np.exp(self.dataset["log_weight"] - self.dataset["log_weight"].max("draw")))
        return w / w.sum("draw")

    def mean(self) -> xr.DataArray:
        """Posterior mean (complex for complex x): the dataset's ``expectation`` if it has one, else of the draws."""
        return self.dataset["expectation"] if "expectation" in self.dataset else self._mean_of_draws()

    def _mean_of_draws(self) -> xr.DataArray:
        return (self.draws * self.weights).sum("draw").astype(self.draws.dtype)

    def std(self) -> xr.DataArray:
        """Posterior standard deviation, NaN of a single draw.

        Of complex x it is ``sqrt(E|x - mean|^2)``, real and imaginary part together.
        """
        n = self.dataset.sizes["draw"]
        spread = (abs(self.draws - self._mean_of_draws()) ** 2 * self.weights).sum("draw")
        if "log_weight" not in self.dataset:
            spread = spread * (n / (n - 1) if n > 1 else np.nan)
        root: xr.DataArray = spread**0.5
        return root

    def quantile(self, q: float | list[float]) -> xr.DataArray:
        """Quantiles over the draws; of the magnitude where x is complex.

        Of weighted draws: each stands at the middle of its weight on the cumulated scale, linear between them.
        """
        values = abs(self.draws) if np.iscomplexobj(self.draws) else self.draws
        if "log_weight" not in self.dataset:
            return values.quantile(q, dim="draw")
        import xarray as xr

        levels = np.atleast_1d(np.asarray(q, dtype=float))
        if not ((levels >= 0) & (levels <= 1)).all():
            raise InputError(f"q = {q}; quantiles expect values from 0 to 1")
        ends = _weighted_quantiles(values.values, self.weights.values, levels, predictive=False)
        out = xr.DataArray(ends, dims=("quantile", *self.draws.dims[1:]), coords={"quantile": levels})
        return out.isel(quantile=0) if np.ndim(q) == 0 else out

    def interval(self, level: float = 0.9) -> xr.DataArray:
        """Central credible interval, dimension ``quantile`` of size 2; of the magnitude where x is complex.

        The ends are order statistics that hold `level` of the predictive mass for finitely many draws: a new draw
        falls between sorted draws j and k with probability (k - j)/(n + 1). Where the draws are too few for `level`
        (n < 19 at 0.9), the ends are Student's for a normal law, ``mean -+ t std sqrt(1 + 1/n)``. Of weighted
        draws n is their effective number, and the ends stay within the outermost draws.
        """
        if not 0 < level < 1:
            raise InputError(f"level = {level}; it expects a value between 0 and 1")
        values = np.abs(self.draws.values) if np.iscomplexobj(self.draws) else self.draws.values
        import xarray as xr

        levels = [(1 - level) / 2, (1 + level) / 2]
        if "log_weight" in self.dataset:
            ends = _weighted_quantiles(values, self.weights.values, np.array(levels), predictive=True)
        else:
            ends = _predictive_quantiles(values, levels)

        return xr.DataArray(
            ends,
            dims=("quantile", *self.draws.dims[1:]),
            coords={"quantile": levels},
        )

    def ess(self) -> float:
        """Effective number of draws, ``1 / sum w^2``; of several problems the smallest."""
        return float((1 / (self.weights**2).sum("draw")).min())

    def apply(self, function: Callable[[xr.DataArray], xr.DataArray]) -> xr.DataArray:
        """Apply a function to every draw: the posterior of any derived quantity, dimension ``draw`` first."""
        import xarray as xr

        parts = [function(self.draws.isel(draw=i)) for i in range(self.dataset.sizes["draw"])]
        return xr.concat([xr.DataArray(p) for p in parts], dim="draw")

    # ---- files ------------------------------------------------------------------------------------------------
    def save(
        self,
        path: str | Path,
        format: str | None = None,
        *,
        like: Volume | None = None,
        draws: bool = False,
        anonymise: bool = False,
    ) -> Path:
        """Write to a file, or to several; the name decides on the format.

        - ``.nc``, ``.h5`` ("netcdf"): draws, mean, std, attributes and diagnostics; complex as a ``complex`` axis.
        - ``NAME.nii``, ``NAME.nii.gz`` ("nifti"): ``NAME_mean`` and ``NAME_std``; so ``.mha``, ``.nrrd``, ``.cfl``.
        - "fastmri", any name: the mean as a submission to fastMRI.
        - a folder, new or empty ("dicom"): a derived DICOM series ``mean`` and one ``std``, 16 bits; of complex x the
          magnitude of the mean. "parametric-map": the same as float32, one file each.

        Args:
            path: the name.
            format: instead of what the name says.
            like: of images, where they stand and what they derive from; None for what the attributes say
                (`Volume.attributes`), else an axial stack by the coordinates in mm.
            draws: of images, each draw as well, ``draw_000`` and so on.
            anonymise: leave out what the source says of patient and study, and where it was.

        A single draw has no std, and none is written to image files.

        Raises:
            UnknownNameError: a suffix or format that is not supported. FileError: the file cannot be written.
            InputError: x is no image, or nothing says where it stands. MissingExtraError: a library is missing.
        """
        from invdiff.datasets.outputs import FORMATS, anonymous, format_of, save_images

        path = Path(path)
        by_suffix = "netcdf" if path.suffix.lower() in (".nc", ".nc4", ".h5", ".hdf5") else None
        kind = format or by_suffix or format_of(path) or path.suffix
        if kind in FORMATS:
            maps = {"mean": self.mean()} | ({"std": self.std()} if self.dataset.sizes["draw"] > 1 else {})
            if draws:
                maps |= {f"draw_{i:03d}": self.draws.isel(draw=i) for i in range(self.dataset.sizes["draw"])}
            given = self.dataset.attrs
            named = [f"{k} {given[k]}" for k in ("sampler", "seed") if k in given]
            details, made = ", ".join([f"{self.dataset.sizes['draw']} draws", *named]), "posterior"
            if given.get("sampler") == "none":  # a classical method, which makes one image
                made = str(given.get("method", "image"))
                details = f"strength {given['strength']:.4g}" if "strength" in given else ""
            save_images(path, kind, maps, given, like=like, details=details, anonymise=anonymise, kind=made)
            return path
        if kind != "netcdf":
            raise UnknownNameError(
                f"cannot write {path}: format {kind!r} is not known; use a name that ends in .nc, .nii or .nii.gz, a"
                f" folder for DICOM, or format= one of netcdf, {', '.join(FORMATS)}"
            )
        content = self.dataset.assign(mean=self.mean(), std=self.std())
        content = _split_complex(content)
        if anonymise:
            content.attrs = anonymous(content.attrs)
        content.attrs["invdiff_format"], content.attrs["invdiff_version"] = "posterior", 1
        content.attrs["diagnostics"] = json.dumps(self.diagnostics)
        packing = {k: {"zlib": True, "complevel": 1} for k in content.data_vars if content[k].ndim > 1}
        with replacing(path) as part:
            content.to_netcdf(part, format="NETCDF4", engine="netcdf4", encoding=packing)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Posterior:
        """Read a NetCDF file that `save` wrote. Raises FileError, FormatError."""
        import xarray as xr

        path = existing(path)
        check_heaps(path)
        try:
            with xr.open_dataset(path, engine="netcdf4") as file:
                content = file.load()
        except MemoryError as error:
            raise FileError(f"{path} does not fit into memory") from error
        except Exception as error:  # damaged files make the library fail in any way
            raise FormatError(f"{path} is not a NetCDF file that can be read: {error}") from error
        if content.attrs.get("invdiff_format") != "posterior" or "draws" not in content:
            raise FormatError(f"{path} holds no posterior: attribute invdiff_format is not 'posterior'")
        try:
            diagnostics = json.loads(content.attrs.pop("diagnostics", "{}"))
            return cls(_join_complex(content).drop_vars(["mean", "std"], errors="ignore"), diagnostics)
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"{path} holds a posterior that cannot be read: {error}; it is damaged") from error

    # ---- views ------------------------------------------------------------------------------------------------
    def _repr_html_(self) -> str:
        """In a notebook: mean and deviation of the middle slice beside what `repr` says."""
        from invdiff.pictures import compact

        maps = {}
        if self.draws.dims[-2:] == ("y", "x"):
            maps["mean"] = self.mean().values
            if self.dataset.sizes["draw"] > 1:
                maps["standard deviation"] = self.std().values
        return compact(repr(self), maps, str(self.draws.attrs.get("units", "")), self.diagnostics.get("warnings", []))

    def __repr__(self) -> str:
        sizes = ", ".join(f"{k}: {v}" for k, v in self.draws.sizes.items())
        notes = ", ".join(f"{k} {v:.3g}" for k, v in self.diagnostics.items() if isinstance(v, (int, float)))
        return f"Posterior({sizes}; {notes})"


def _predictive_quantiles(values: np.ndarray, levels: list[float]) -> np.ndarray:
    ordered = np.sort(values, axis=0)
    n = ordered.shape[0]
    out = []
    for level in levels:
        position = level * (n + 1) - 1  # draw k of n (from 0) is the quantile (k + 1)/(n + 1) of the next one
        if 0 <= position <= n - 1:
            low = min(int(position), max(0, n - 2))
            out.append(ordered[low] + (position - low) * (ordered[min(low + 1, n - 1)] - ordered[low]))
        else:
            out.append(_student(values, level))
    return np.stack(out)


def _student(values: np.ndarray, level: float) -> np.ndarray:
    """Quantile of a new draw of a normal law, given n of it; NaN of one draw, which tells no spread."""
    from scipy.stats import t

    n = values.shape[0]
    if n == 1:
        return np.full_like(values[0], np.nan)
    ends: np.ndarray = values.mean(0) + float(t.ppf(level, n - 1)) * (1 + 1 / n) ** 0.5 * values.std(0, ddof=1)
    return ends


def _weighted_quantiles(values: np.ndarray, weights: np.ndarray, levels: np.ndarray, predictive: bool) -> np.ndarray:
    """Quantiles over axis 0 of values ``(n, ...)`` with weights ``(n,)`` or ``(n, problems)``, linear in between."""
    weights = weights.reshape(weights.shape + (1,) * (values.ndim - weights.ndim))
    order = np.argsort(values, axis=0)
    ordered = np.take_along_axis(values, order, 0)
    w = np.take_along_axis(np.broadcast_to(weights, values.shape), order, 0)
    position = w.cumsum(0) - w / 2
    if predictive:  # for equal weights (k + 1)/(n + 1), where `_predictive_quantiles` has draw k
        effective = 1 / (w**2).sum(0)
        position = (effective * position + 0.5) / (effective + 1)
    out = []
    for level in levels:
        high = (position < level).sum(0, keepdims=True).clip(1, max(1, len(values) - 1))
        pairs = [np.take_along_axis(a, k, 0)[0] for a in (position, ordered) for k in (high - 1, high % len(values))]
        p_low, p_high, low, top = pairs
        share = np.where(p_high > p_low, (level - p_low) / np.where(p_high > p_low, p_high - p_low, 1), 0).clip(0, 1)
        out.append(low + share * (top - low))
    return np.stack(out)


def _split_complex(data: xr.Dataset) -> xr.Dataset:
    import xarray as xr

    for name, value in data.data_vars.items():
        if np.iscomplexobj(value):
            pair = xr.concat([value.real, value.imag], dim="complex").transpose(..., "complex")
            data = data.assign({name: pair}).assign_coords({"complex": ["re", "im"]})
    return data


def _join_complex(data: xr.Dataset) -> xr.Dataset:
    if "complex" not in data.dims:
        return data
    for name, value in data.data_vars.items():
        if "complex" in value.dims:
            joined = value.sel(complex="re", drop=True) + 1j * value.sel(complex="im", drop=True)
            data = data.assign({name: joined.astype(np.complex64 if value.dtype == np.float32 else np.complex128)})
    return data.drop_vars("complex")
