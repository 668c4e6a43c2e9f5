"""Soundings of IGRA v2: by column, with its missing values and flags."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from invdiff.datasets.weather.igra import read_igra, recognise
from invdiff.datasets.weather.moisture import humidity_from_dewpoint, humidity_from_relative
from invdiff.errors import FormatError, InputError

# pressure, its flag, height, flag, temperature, flag, relative humidity, depression, direction, speed
Level = tuple[int, str, int, str, int, str, int, int, int, int]
FULL: Level = (85000, " ", 1500, "B", -105, "B", 500, 80, 90, 100)


def header(levels: int, hour: int = 12, release: int = 1105, lat: int = 712889, lon: int = -1567833) -> str:
    return f"#USM00070026 2010 06 01 {hour:02d} {release:04d} {levels:4d} ncdc6301 ncdc6301 {lat:7d} {lon:8d}"


def level(
    p: int, pf: str, z: int, zf: str, t: int, tf: str, rh: int, dp: int, wd: int, ws: int, kind: str = "10"
) -> str:
    return f"{kind}  1234 {p:6d}{pf}{z:5d}{zf}{t:5d}{tf}{rh:5d} {dp:5d} {wd:5d} {ws:5d} "


def saved(path: Path, *lines: str) -> Path:
    (path / "igra.txt").write_text("\n".join(lines) + "\n", encoding="latin-1")
    return path / "igra.txt"


def value(found: xr.Dataset, variable: str) -> list[float]:
    rows = found["variable"].values == variable
    return [float(v) for v in found["value"].values[rows]]


def test_one_level_by_hand(tmp_path: Path) -> None:
    found = read_igra(saved(tmp_path, header(1), level(*FULL)))
    assert value(found, "air_temperature") == pytest.approx([262.65])
    assert value(found, "geopotential") == pytest.approx([14709.975])
    assert value(found, "eastward_wind") == pytest.approx([-10.0])  # from the east
    assert value(found, "northward_wind") == pytest.approx([0.0], abs=1e-12)
    # dew point -18.5 degrees: e = 611.2 exp(17.67 * -18.5 / 225) = 142.97 Pa; q = 0.622 e / (85000 - 0.378 e)
    assert value(found, "specific_humidity") == pytest.approx([0.00104687], rel=1e-4)
    assert set(found["level"].values) == {85000.0} and set(found["time"].values) == {np.datetime64("2010-06-01T12:00")}
    assert found["latitude"].values[0] == 71.2889 and found["longitude"].values[0] == -156.7833
    assert np.isnan(found["error"].values).all() and set(found["station"].values) == {"USM00070026"}


def test_touching_fields_and_missing_values(tmp_path: Path) -> None:
    touching = level(100980, "B", -9999, " ", -8888, " ", -9999, -9999, 20, 51)
    assert "100980B-9999" in touching
    found = read_igra(saved(tmp_path, header(1), touching))
    assert set(found["variable"].values) == {"eastward_wind", "northward_wind"}
    assert value(found, "northward_wind") == pytest.approx([-4.79243], abs=1e-5)


def test_relative_humidity_serves_where_the_dew_point_is_missing(tmp_path: Path) -> None:
    lines = [level(*FULL[:7], -9999, 90, 100), level(*FULL[:6], -9999, 80, 90, 100)]
    q = value(read_igra(saved(tmp_path, header(2), *lines)), "specific_humidity")
    assert q[0] == pytest.approx(float(humidity_from_relative(0.5, 262.65, 85000)))
    assert q[1] == pytest.approx(float(humidity_from_dewpoint(254.65, 85000)))


def test_levels_without_pressure_are_left_out(tmp_path: Path) -> None:
    wind = level(-9999, " ", 3000, " ", -9999, " ", -9999, -9999, 90, 50, kind="30")
    assert len(read_igra(saved(tmp_path, header(2), level(*FULL), wind))["value"]) == 5


def test_flags(tmp_path: Path) -> None:
    lines = [level(*FULL[:5], flag, *FULL[6:]) for flag in " AB"]
    path = saved(tmp_path, header(3), *lines)
    counts = {accept: len(value(read_igra(path, accept=accept), "air_temperature")) for accept in (" AB", "AB", "B")}
    assert counts == {" AB": 3, "AB": 2, "B": 1}
    kept = read_igra(path, accept="B")
    assert len(value(kept, "specific_humidity")) == 1 and len(value(kept, "geopotential")) == 3
    assert len(value(kept, "eastward_wind")) == 3  # wind has no such check
    assert kept["quality"].values[kept["variable"].values == "air_temperature"].tolist() == ["B"]


def test_times(tmp_path: Path) -> None:
    lines = [header(1, hour=99, release=1799), level(*FULL), header(1, hour=99, release=9999), level(*FULL)]
    found = read_igra(saved(tmp_path, *lines))  # the second has no time at all
    assert set(found["time"].values) == {np.datetime64("2010-06-01T17:00")} and len(found["value"]) == 5


def test_cut_short(tmp_path: Path) -> None:
    whole = [header(2), level(*FULL), level(*FULL)]
    for end in ([header(3)], [header(3), level(*FULL)], [header(1), level(*FULL)[:30]]):
        path = saved(tmp_path, *whole, *end)
        with pytest.raises(
            FormatError, match=r"igra.txt: the sounding at line 4 announces \d levels.*incomplete='drop'"
        ):
            read_igra(path)
        assert len(read_igra(path, incomplete="drop")["value"]) == 10
    path = saved(tmp_path, header(3), level(*FULL), *whole)  # in the middle it is damage, not an end
    with pytest.raises(FormatError, match="line 1 announces 3 levels, 1 are there whole"):
        read_igra(path, incomplete="drop")
    with pytest.raises(FormatError, match="line 4 is .*expected a header"):
        read_igra(saved(tmp_path, *whole, level(*FULL)))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([header(1, lat=-988888), level(*FULL)], "latitude is -98.8888"),
        ([header(1, lon=-9988888), level(*FULL)], "longitude is -998.8888"),
        ([header(1).replace(" 06 ", " 13 "), level(*FULL)], "sounding 1: date"),
        ([header(1), level(*FULL).replace("85000", "85x00")], "line 2: pressure is b' 85x00'"),
        ([header(1), level(*FULL[:8], 400, 100)], "line 2: direction is 400"),
        ([header(1), level(-9999, *FULL[1:])], "no usable value in 1 soundings"),
        (["not a sounding"], "expected an IGRA v2 header"),
    ],
)
def test_bad_fields(tmp_path: Path, lines: list[str], said: str) -> None:
    with pytest.raises(FormatError, match=said) as caught:
        read_igra(saved(tmp_path, *lines))
    assert "igra.txt" in str(caught.value)
    with pytest.raises(InputError, match="accept='Z'"):
        read_igra(tmp_path / "igra.txt", accept="Z")


def test_zip(tmp_path: Path) -> None:
    path = saved(tmp_path, header(1), level(*FULL))
    with zipfile.ZipFile(tmp_path / "igra.zip", "w") as archive:
        archive.write(path, "USM00070026-data.txt")
    assert read_igra(tmp_path / "igra.zip").drop_attrs().equals(read_igra(path).drop_attrs())
    (tmp_path / "igra.zip").write_bytes((tmp_path / "igra.zip").read_bytes()[:60])
    with pytest.raises(FormatError, match="damaged zip"):
        read_igra(tmp_path / "igra.zip")
    assert recognise(path) and not recognise(tmp_path / "igra.zip") and not recognise(tmp_path / "none")


def test_real_soundings(data_dir: Path) -> None:
    path = data_dir / "atmosphere" / "igra2_USM00070026.txt"
    assert recognise(path)
    with pytest.raises(FormatError, match="line 318 announces 147 levels, 0 are there"):
        read_igra(path)
    found = read_igra(path, incomplete="drop")
    assert np.unique(found["time"].values).astype("datetime64[h]").astype(str).tolist() == [
        "2010-06-01T00",
        "2010-06-01T12",
    ]
    first = found.isel(
        observation=(found["level"].values == 100980) & (found["time"].values == found["time"].values[0])
    )
    assert dict(zip(first["variable"].values, first["value"].values.round(4), strict=True)) == pytest.approx(
        {
            "air_temperature": 273.15,
            "specific_humidity": 0.0038,
            "geopotential": 117.6798,
            "eastward_wind": -1.7443,
            "northward_wind": -4.7924,
        }
    )
