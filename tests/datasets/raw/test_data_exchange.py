"""Counts and sinograms from HDF5 and NetCDF: the right axis is the views, the right unit the angle."""

import os
from pathlib import Path
from typing import Any

import h5py
import netCDF4
import numpy as np
import pytest

from invdiff.datasets import reading
from invdiff.datasets.raw import data_exchange
from invdiff.errors import FileError, FormatError

VIEWS, ROWS, CHANNELS = 7, 3, 16
COUNTS = np.random.default_rng(0).uniform(100, 900, (VIEWS, ROWS, CHANNELS)).astype(np.float32)
WHITE, DARK = np.full((4, ROWS, CHANNELS), 1000, np.float32), np.full((2, ROWS, CHANNELS), 10, np.float32)
DEGREES = np.linspace(0, 180, VIEWS, endpoint=False)


def exchange(path: Path, **changes: Any) -> Path:
    arrays = {"data": COUNTS, "data_white": WHITE, "data_dark": DARK, "theta": DEGREES, **changes}
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            if values is not None:
                file[f"exchange/{name}"] = values
        file["exchange/data"].attrs["units"] = "counts"
    return path


def test_data_exchange(tmp_path: Path) -> None:
    path = exchange(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        for axis, value in (("y", 2.0), ("x", 1.5)):
            size = file.create_dataset(f"measurement/instrument/detector/pixel_size_{axis}", data=value)
            size.attrs["units"] = "um"
    raw = data_exchange.read(path)
    np.testing.assert_array_equal(raw.projections, COUNTS)
    np.testing.assert_array_equal(raw.flats, WHITE)
    np.testing.assert_array_equal(raw.darks, DARK)
    np.testing.assert_allclose(raw.angles, np.deg2rad(DEGREES))
    assert raw.spacing == pytest.approx((0.002, 0.0015))  # rows, channels; mm


def test_axes_by_name(tmp_path: Path) -> None:
    # As many rows as views: only the names tell.
    values = np.random.default_rng(1).uniform(size=(VIEWS, VIEWS, CHANNELS)).astype(np.float32)
    path = exchange(tmp_path / "a.h5", data=values, data_white=None, data_dark=None)
    with h5py.File(path, "a") as file:
        file["exchange/data"].attrs.update({"axes": "y:theta:x", "units": ""})
    np.testing.assert_array_equal(data_exchange.read(path).projections, values.transpose(1, 0, 2))


@pytest.mark.parametrize("format", ["NETCDF4", "NETCDF3_CLASSIC"])
def test_netcdf_sinograms(tmp_path: Path, format: Any) -> None:
    lines = np.random.default_rng(2).uniform(size=(VIEWS, VIEWS, CHANNELS)).astype(np.float32)
    with netCDF4.Dataset(tmp_path / "a.nc", "w", format=format) as file:
        for name, size in (("row", VIEWS), ("angle", VIEWS), ("channel", CHANNELS)):
            file.createDimension(name, size)
        file.createVariable("sinogram", "f4", ("row", "angle", "channel"))[:] = lines
        file.createVariable("angle", "f8", ("angle",))[:] = np.deg2rad(DEGREES)
        file["angle"].units = "radians"
        file.pixel_size, file.source_axis, file.source_detector, file.rotation_centre = 0.5, 500.0, 900.0, 8.0
    raw = data_exchange.read(tmp_path / "a.nc")
    np.testing.assert_array_equal(raw.projections, lines.transpose(1, 0, 2))
    np.testing.assert_allclose(raw.angles, np.deg2rad(DEGREES))
    assert (raw.spacing, raw.source_axis, raw.source_detector) == ((0.5, 0.5), 500, 900)
    assert raw.offset == pytest.approx(-0.25)  # the middle of 16 channels is 7.5: half a channel short of it
    assert raw.flats is None


@pytest.mark.parametrize(("name", "rows_first"), [("projections", False), ("sinograms", True)])
def test_as_many_rows_as_views(tmp_path: Path, name: str, rows_first: bool) -> None:
    values = np.random.default_rng(1).uniform(size=(VIEWS, VIEWS, CHANNELS)).astype(np.float32)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file[name], file["angles"] = values, DEGREES
    expected = values.swapaxes(0, 1) if rows_first else values
    np.testing.assert_array_equal(data_exchange.read(tmp_path / "a.h5").projections, expected)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": COUNTS.astype(np.uint16), "data_dark": None}, "are in counts and whole numbers"),
        ({}, "beside a dark field"),
    ],
)
def test_counts_without_an_open_beam(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(FormatError, match=f"{said}, which line integrals are not"):
        data_exchange.read(exchange(tmp_path / "a.h5", data_white=None, **changes))


def test_one_row(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["counts"], file["flats"], file["angles"] = COUNTS[:, 0], WHITE[:, 0], DEGREES
    raw = data_exchange.read(tmp_path / "a.h5")
    assert raw.projections.shape == (VIEWS, 1, CHANNELS)
    assert raw.flats is not None and raw.flats.shape == (4, 1, CHANNELS)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"theta": None}, "has no theta"),
        ({"theta": DEGREES[:-1]}, "6 angles do not go with projections"),
        ({"data_white": WHITE[:, :2]}, "the white field has shape"),
        ({"data_white": None}, "projections are in counts and .* no open beam"),
        ({"data_white": DARK}, "not brighter than darks"),
        ({"theta": np.linspace(0, 3, VIEWS)}, "have no units"),
        ({"theta": np.full(VIEWS, np.nan)}, "angles holds NaN"),
        ({"data": COUNTS * (1 + 0j)}, "expected real numbers"),
        ({"data": COUNTS[0, 0]}, "expected .views, rows, channels."),
        ({"data": COUNTS * np.float32(np.nan)}, "projections holds NaN"),
    ],
)
def test_bad_content(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(FormatError, match=said):
        data_exchange.read(exchange(tmp_path / "a.h5", **changes))


def test_bad_files(tmp_path: Path) -> None:
    whole = exchange(tmp_path / "a.h5").read_bytes()
    path = tmp_path / "b.h5"
    for content in (b"", b"hello", whole[: len(whole) // 2], b"CDF\x01" + bytes(40)):
        path.write_bytes(content)
        assert not data_exchange.recognise(path)
        with pytest.raises(FileError):
            data_exchange.read(path)


def test_real_tooth() -> None:
    data = os.environ.get("INVDIFF_DATA")
    if not data:
        pytest.skip("INVDIFF_DATA is not set: ct/tooth_counts.h5 is needed")
    raw = data_exchange.read(Path(data) / "ct" / "tooth_counts.h5")
    assert raw.projections.shape == (181, 2, 640)
    assert raw.flats is not None and raw.darks is not None and raw.spacing is None and raw.offset is None
    assert np.rad2deg(raw.angles[-1]) == pytest.approx(179.0055, abs=1e-4)
    measurement = reading.read(Path(data) / "ct" / "tooth_counts.h5", slice=0)
    assert tuple(measurement.y.shape) == (181, 640)
