"""Tables of scattered observations."""

import sys
from pathlib import Path

import numpy as np
import pytest

from invdiff.datasets.weather.stations import read_stations
from invdiff.errors import FileError, FormatError, MissingExtraError

HEAD = "time,lat,lon,level,variable,value,error,units,station"
GOOD = [
    "2019-03-25T12:00:00Z,51.5,-0.1,,t2m,10.0,0.5,degC,London",
    "2019-03-25 13:30+01:00,55.9,-3.2,850,eastward_wind,20,1,kt,Edinburgh",
    "2019-03-25T12:00,53.3,353.7,,air_temperature,,0.5,K,Dublin",
    "2019-03-25,53.3,353.7,500,z,5500,,m,Dublin",
]


def table(path: Path, *rows: str, head: str = HEAD) -> Path:
    (path / "s.csv").write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return path / "s.csv"


def test_values_in_their_units(tmp_path: Path) -> None:
    found = read_stations(table(tmp_path, *GOOD))
    assert found["variable"].values.tolist() == ["air_temperature", "eastward_wind", "geopotential"]
    np.testing.assert_allclose(found["value"], [283.15, 20 * 1852 / 3600, 5500 * 9.80665])
    np.testing.assert_allclose(found["error"], [0.5, 1852 / 3600, np.nan])  # an offset does not move an error
    np.testing.assert_allclose(found["level"], [np.nan, 85000, 50000])
    assert found["time"].values.astype("datetime64[m]").tolist() == [
        np.datetime64(t).item() for t in ("2019-03-25T12:00", "2019-03-25T12:30", "2019-03-25T00:00")
    ]
    assert found["station"].values.tolist() == ["London", "Edinburgh", "Dublin"]
    assert found["longitude"].attrs["units"] == "degrees_east" and found.attrs["featureType"] == "point"


def test_level_units(tmp_path: Path) -> None:
    path = table(tmp_path, GOOD[1].replace(",850,", ",85000,"))
    assert read_stations(path, level_units="Pa")["level"].values.tolist() == [85000.0]
    with pytest.raises(FormatError, match="line 2: level is 8500000.0; expected pressures"):
        read_stations(path)


def test_few_columns_suffice(tmp_path: Path) -> None:
    path = table(tmp_path, "2019-03-25,51.5,-0.1,t2m,283", head="Time,Latitude,Longitude,Variable,Value")
    found = read_stations(path)
    assert np.isnan(found["error"].values).all() and np.isnan(found["level"].values).all()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("51.5", "91.5", "line 2: latitude is 91.5; expected degrees"),
        ("51.5", "", "line 2: latitude is nan"),
        ("-0.1", "361", "line 2: longitude is 361.0"),
        ("-0.1", "west", "longitude is 'west' in line 2"),
        ("t2m", "tmp2", "line 2: variable 'tmp2' is not known; expected one of air_pressure"),
        ("degC", "furlong", "line 2: t2m has units 'furlong'; expected K"),
        ("10.0", "warm", "value is 'warm' in line 2"),
        ("0.5", "0", "line 2: error is 0.0; expected standard deviations above 0"),
        ("0.5", "-1", "error is -1.0"),
        ("2019-03-25T12:00:00Z", "25/03/2019", "time is '25/03/2019' in line 2"),
        (",London", "", "line 2 has 8 fields, the header 9"),
    ],
)
def test_bad_field(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(FormatError, match=said) as caught:
        read_stations(table(tmp_path, GOOD[0].replace(old, new), GOOD[1]))
    assert "s.csv" in str(caught.value)


def test_bad_table(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no column value; it has time"):
        read_stations(table(tmp_path, GOOD[0], head=HEAD.replace("value", "thing")))
    with pytest.raises(FormatError, match="names a column twice"):
        read_stations(table(tmp_path, GOOD[0], head=HEAD.replace("value", "lat")))
    with pytest.raises(FormatError, match="1 lines; expected a header"):
        read_stations(table(tmp_path))
    with pytest.raises(FormatError, match="no value in 1 rows"):
        read_stations(table(tmp_path, GOOD[2]))
    with pytest.raises(FileError, match="does not exist"):
        read_stations(tmp_path / "none.csv")
    (tmp_path / "s.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(FormatError, match="not a CSV table in UTF-8"):
        read_stations(tmp_path / "s.csv")


def test_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow (extra weather) is not installed")
    import pyarrow as pa
    from pyarrow import parquet

    rows = [row.split(",") for row in GOOD]
    columns = {n: [r[i] for r in rows] for i, n in enumerate(HEAD.split(","))}
    table_ = pa.table({**columns, "value": pa.array([10.0, 20.0, None, 5500.0])})
    parquet.write_table(table_, tmp_path / "s.dat")
    found, same = read_stations(tmp_path / "s.dat"), read_stations(table(tmp_path, *GOOD))
    assert found.drop_attrs().equals(same.drop_attrs())
    whole = (tmp_path / "s.dat").read_bytes()
    (tmp_path / "s.dat").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FormatError, match="s.dat cannot be read as Parquet"):
        read_stations(tmp_path / "s.dat")


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "s.dat").write_bytes(b"PAR1" + bytes(20))
    with pytest.raises(MissingExtraError, match=r"pyarrow.*invdiff\[weather\]"):
        read_stations(tmp_path / "s.dat")
