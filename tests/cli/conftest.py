"""A small acquisition as a file, a prior whose posterior is known, and the command line without a process."""

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

from invdiff.cli import app
from invdiff.demo import simulate
from invdiff.networks.unet import UNet


@pytest.fixture
def call() -> Callable[..., Result]:
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="session")
def prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # A fresh network returns zero, so the preconditioned denoiser is that of white Gaussian images: an exact prior.
    shape = {"channels": [8], "blocks": 1, "embedding": 8, "fold": 2}
    card = {
        "name": "white",
        "domain": "complex",
        "architecture": {"type": "UNet", **shape},
        "sigma_data": 0.35,
        "sigma_min": 0.003,
        "sigma_max": 20.0,
        "units": {"kind": "relative", "quantile": 0.99, "value": 0.8},
    }
    path = tmp_path_factory.mktemp("prior") / "white.safetensors"
    save_file(UNet(2, 2, **shape).state_dict(), path, metadata={"card": json.dumps(card)})  # type: ignore[arg-type]
    return path


@pytest.fixture(scope="session")
def kspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight coils, 48 x 48, as .npy."""
    folder = tmp_path_factory.mktemp("kspace")
    simulate(folder / "kspace.h5", seed=3, size=48)
    with h5py.File(folder / "kspace.h5") as file:
        np.save(folder / "kspace.npy", file["kspace"][0])
    return folder / "kspace.npy"
