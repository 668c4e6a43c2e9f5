"""An ensemble of the atmosphere from a coarse field and stations; `make.py` turns it into a notebook."""

# %% [markdown]
# # The atmosphere: an ensemble from a coarse field and a few stations
#
# A coarse analysis says what the weather is like on average over large cells, stations what it is at a few points. A
# prior of fields, fitted to the weeks before, knows what weather looks like. Together they give an ensemble: what the
# fine field may have been, and how sure one can be.
#
# With `INVDIFF_DATA` set to a folder with `atmosphere/era5_t2m_uk_2019-03.nc` (hourly ERA5 2 m temperature over the
# British Isles, March 2019) this is real weather; without it a procedural field takes its place.

# %%
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import xarray as xr

from invdiff.datasets.weather.measurements import State
from invdiff.datasets.weather.netcdf import read_fields
from invdiff.metrics.ensemble import crps, rmse, spread_skill
from invdiff.operators.fields.sphere import Coarsen, block_axis
from invdiff.report.maps import ensemble_figure
from invdiff.training.config import TrainConfig
from invdiff.training.run import train

folder = Path(os.environ.get("INVDIFF_WORK", tempfile.mkdtemp()))
folder.mkdir(parents=True, exist_ok=True)
real = Path(os.environ.get("INVDIFF_DATA", "nowhere")) / "atmosphere" / "era5_t2m_uk_2019-03.nc"

# %% [markdown]
# ## The truth
# Real weather, or a field that is made here: fronts that wander, a daily cycle over land, hills.

# %%


def procedural(path, hours=360, seed=0):
    """A month-like field on the grid of the real one, smooth in space and time."""
    rng = torch.Generator().manual_seed(seed)
    k = torch.fft.fftfreq(32)[:, None] ** 2 + torch.fft.rfftfreq(48)[None] ** 2
    k[0, 0] = 1.0
    land = torch.fft.irfft2(torch.fft.rfft2(torch.randn(32, 48, generator=rng)) * k**-1.2, s=(32, 48))
    land = torch.sigmoid(3 * land / land.std())
    weather, x = torch.zeros(32, 48), []
    for h in range(hours):
        fresh = torch.fft.irfft2(torch.fft.rfft2(torch.randn(32, 48, generator=rng)) * k**-1.1, s=(32, 48))
        weather = 0.95 * weather + 0.3 * fresh / fresh.std()
        x.append(280 + 1.8 * weather + land * (2.5 * np.sin(2 * np.pi * (h - 9) / 24) + 0.5 * weather))
    time = np.datetime64("2019-03-01", "ns") + np.arange(hours) * np.timedelta64(1, "h")
    coords = {
        "time": time,
        "latitude": ("latitude", 58 - 0.25 * np.arange(32), {"units": "degrees_north"}),
        "longitude": ("longitude", -10 + 0.25 * np.arange(48), {"units": "degrees_east"}),
    }
    data = {"t2m": (("time", "latitude", "longitude"), torch.stack(x).numpy(), {"units": "K"})}
    xr.Dataset(data, coords).to_netcdf(path)


if real.is_file():
    source, split, select = real, "2019-03-22T00:00", {"latitude": (0, 32), "longitude": (0, 48)}
else:
    source, split, select = folder / "procedural.nc", "2019-03-12T00:00", {}
    procedural(source)
fields = read_fields(source, ["t2m"], {k: slice(*v) for k, v in select.items()})
state, times = State.of(fields), fields["time"].values
truth = state.tensor(fields)[:, 0]
low, high = float(truth.min()), float(truth.max())
print(f"{source.name}: {len(times)} hours of {tuple(truth.shape[1:])} points, {low:.1f} ... {high:.1f} K")

# %% [markdown]
# ## The prior
# Windows of three hours. Its first guess is an exact Gaussian (localised covariance of the weeks before); a network
# learns what that leaves. `invdiff train weather` does this in a quarter of an hour on one core; here a few steps, so
# that the notebook runs quickly: set `INVDIFF_WEATHER` to finished weights to see the network's part.

# %%
steps = int(os.environ.get("INVDIFF_STEPS", "30"))
config = TrainConfig.model_validate(
    {
        "name": "weather", "domain": "real", "steps": steps, "batch": 8, "warmup": 10, "mixed_precision": "no",
        "log_sigma_mean": -1.8, "log_sigma_std": 1.1, "sigma_min": 0.01, "sigma_max": 2.0, "ema": 0.99,
        "data": {
            "kind": "fields", "paths": [str(source)], "variables": ["t2m"], "select": select, "train_until": split,
        },
        "network": {"kind": "field_unet", "channels": [32, 48], "blocks": 1, "embedding": 32, "fold": 2},
    }
)  # fmt: skip
weights = os.environ.get("INVDIFF_WEATHER") or train(config, folder / "prior", report=lambda line: None, progress=False)

# %% [markdown]
# ## What is observed
# Three hours of the test period: means over 8 x 8 cells with an error of 0.2 K, and twelve stations with 0.5 K. They
# go to files as such data come: NetCDF that states its error as CF has it, and a CSV table.

# %%
rng = torch.Generator().manual_seed(5)
first = int(np.flatnonzero(times >= np.datetime64(split) + np.timedelta64(86, "h"))[0])
hours = slice(first, first + 3)
cells = block_axis(state.latitude, 8), block_axis(state.longitude, 8)
coarse = Coarsen(state.shape, state.latitude, state.longitude, *cells).forward(truth[hours, None])[:, 0]
coarse = coarse + 0.2 * torch.randn(coarse.shape, generator=rng)
variables = {
    "t2m": (("time", "latitude", "longitude"), coarse.numpy(),
            {"units": "K", "standard_name": "air_temperature", "ancillary_variables": "t2m_error"}),
    "t2m_error": ((), 0.2, {"units": "K", "standard_name": "air_temperature standard_error"}),
}  # fmt: skip
grid = {
    "time": times[hours],
    "latitude": ("latitude", cells[0].numpy(), {"units": "degrees_north"}),
    "longitude": ("longitude", cells[1].numpy(), {"units": "degrees_east"}),
}
xr.Dataset(variables, grid).to_netcdf(folder / "coarse.nc")
where = torch.stack([torch.randint(n, (12,), generator=rng) for n in truth.shape[1:]], 1).tolist()
lines = ["time,lat,lon,level,variable,value,error,station"]
for h in range(first, first + 3):
    for i, (r, c) in enumerate(where):
        value = float(truth[h, r, c] + 0.5 * torch.randn(1, generator=rng))
        lines.append(
            f"{str(times[h])[:19]},{state.latitude[r]},{state.longitude[c]},,air_temperature,{value:.2f},0.5,S{i:02d}"
        )
(folder / "stations.csv").write_text("\n".join(lines) + "\n")

# %% [markdown]
# ## The ensemble
# The same as the command
#
#     invdiff reconstruct coarse.nc --stations stations.csv --prior weather.safetensors --draws 16 -o ensemble.nc

# %%
from invdiff.reconstruction.weather import Weather, reconstruct_weather  # noqa: E402

scores = {}
for name, stations in (("coarse field alone", []), ("with stations", [folder / "stations.csv"])):
    out = folder / ("ensemble.nc" if stations else "coarse_only.nc")
    figures = reconstruct_weather(folder / "coarse.nc", stations, weights, out, Weather(draws=16, nfe=8))
    with xr.open_dataset(out) as data:
        members = torch.from_numpy(data["t2m"].transpose("realization", ...).values).double()
    at = truth[hours].double()
    scores[name] = float(crps(members, at).mean())
    error, ratio = rmse(at, members.mean(0), state.latitude), spread_skill(members, at, state.latitude)
    print(f"{name:<20} CRPS {scores[name]:.3f} K, RMSE {error:.3f} K, spread over skill {ratio:.2f}")

# %%
with xr.open_dataset(folder / "ensemble.nc") as data:
    figure = ensemble_figure(data.load(), figures["station_residuals"], time=1)
plt.show()

# %%
figure, axes = plt.subplots(1, 3, figsize=(12, 3.2), layout="constrained")
low, high = float(at[1].min()), float(at[1].max())
extent = (state.longitude[0], state.longitude[-1], state.latitude[-1], state.latitude[0])
for axis, image, title in zip(
    axes, (coarse[1], members.mean(0)[1], at[1]), ("coarse field", "mean of the ensemble", "truth"), strict=True
):
    shown = axis.imshow(image, vmin=low, vmax=high, extent=extent, aspect="auto")
    axis.set_title(title)
figure.colorbar(shown, ax=axes, label="K")
plt.show()

# %% [markdown]
# More data can only help a posterior that is right: the stations must not make the score worse.

# %%
assert scores["with stations"] < scores["coarse field alone"] + 0.02, scores
