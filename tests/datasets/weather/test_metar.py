"""Airport reports in CSV."""

from pathlib import Path

import numpy as np
import pytest

from invdiff.datasets.weather.metar import read_metar
from invdiff.datasets.weather.moisture import humidity_from_dewpoint, humidity_from_relative, station_pressure
from invdiff.errors import FormatError

HEAD = "station,valid,lon,lat,elevation,tmpf,dwpf,relh,drct,sknt,alti,mslp"
FULL = "DEN,2020-01-02 06:53,-104.67,39.86,1656,50.00,41.00,71.2,270,10,29.92,1012.3"


def saved(path: Path, *rows: str, head: str = HEAD) -> Path:
    (path / "m.csv").write_text("\n".join(["#DEBUG: a comment", head, *rows]) + "\n", encoding="utf-8")
    return path / "m.csv"


def values(path: Path) -> dict[str, float]:
    found = read_metar(path)
    assert np.isnan(found["level"].values).all()
    return dict(zip(found["variable"].values.tolist(), found["value"].values.tolist(), strict=True))


def test_report_by_hand(tmp_path: Path) -> None:
    found = values(saved(tmp_path, FULL))
    assert found["air_temperature"] == pytest.approx(283.15)
    assert found["eastward_wind"] == pytest.approx(5.14444, rel=1e-5)  # from the west, 10 knots
    assert found["northward_wind"] == pytest.approx(0, abs=1e-12)
    assert found["air_pressure_at_mean_sea_level"] == pytest.approx(101230)
    # 29.92 inHg = 1013.21 hPa; the standard atmosphere at 1656 m is 829.5 hPa
    assert found["surface_air_pressure"] == pytest.approx(82950, abs=60)
    # dew point 5 degrees: e = 872.5 Pa; q = 0.622 e / (82950 - 0.378 e)
    assert found["specific_humidity"] == pytest.approx(0.006569, rel=2e-3)


def test_missing_fields(tmp_path: Path) -> None:
    found = values(saved(tmp_path, "DEN,2020-01-02 06:53,-104.67,39.86,M,50.00,M,M,VRB,3,M,M"))
    assert set(found) == {"air_temperature"}
    calm = values(saved(tmp_path, "DEN,2020-01-02 06:53,-104.67,39.86,M,M,M,M,M,0,M,M"))
    assert calm == {"eastward_wind": 0.0, "northward_wind": 0.0}
    no_dew = values(saved(tmp_path, FULL.replace("41.00", "M")))
    pressure = station_pressure(29.92 * 3386.389, 1656)
    assert no_dew["specific_humidity"] == pytest.approx(float(humidity_from_relative(0.712, 283.15, pressure)))
    dew = values(saved(tmp_path, FULL))
    assert dew["specific_humidity"] == pytest.approx(float(humidity_from_dewpoint(278.15, pressure)))


def test_metric_columns(tmp_path: Path) -> None:
    row = "EGLL,2020-01-02T06:50Z,-0.45,51.48,25,10.0,180,5.0"
    found = values(saved(tmp_path, row, head="icao,time,lon,lat,elev,tmpc,drct,smps"))
    assert found == pytest.approx({"air_temperature": 283.15, "eastward_wind": 0.0, "northward_wind": 5.0}, abs=1e-9)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("39.86", "139.86", "line 3: latitude is 139.86"),
        ("39.86", "M", "line 3: latitude is nan"),
        ("50.00", "warm", "tmpf is 'warm' in line 3"),
        ("270", "400", "m.csv: .*direction outside"),
        ("2020-01-02 06:53", "yesterday", "valid is 'yesterday'"),
        (",1012.3", "", "line 3 has 11 fields, the header 12"),
    ],
)
def test_bad_field(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(FormatError, match=said) as caught:
        read_metar(saved(tmp_path, FULL.replace(old, new)))
    assert "m.csv" in str(caught.value)


def test_bad_table(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no column valid"):
        read_metar(saved(tmp_path, FULL, head=HEAD.replace("valid", "when")))
    with pytest.raises(FormatError, match="no value that is used"):
        read_metar(saved(tmp_path, "DEN,2020-01-02 06:53,-104.67,39.86", head="station,valid,lon,lat"))
