from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from invdiff.errors import FileError, ShapeError
from invdiff.report import panel as module
from invdiff.report.panel import panel

COORDS = {"y": (("y",), np.arange(20) * 2.0, {"units": "mm"}), "x": (("x",), np.arange(30) - 15.0, {"units": "mm"})}


@pytest.fixture
def figures(monkeypatch) -> list:
    """The figures that are saved, for a look inside."""
    from matplotlib.figure import Figure

    seen: list = []
    save = Figure.savefig

    def watched(self, *a, **k) -> None:
        seen.append(self)
        save(self, *a, **k)

    monkeypatch.setattr(Figure, "savefig", watched)
    return seen


def pictures(figure) -> dict:
    return {a.get_title(): a for a in figure.axes if a.get_images() and a.get_title()}


def test_panel_shows_each_group_in_its_scale(tmp_path: Path, figures: list) -> None:
    truth = np.full((20, 30), 2.0)
    bright = 3j * truth
    error = np.linspace(0, 1, 600).reshape(20, 30)
    misfit = np.where(error > 0.5, 1.0, np.nan)
    path = panel(
        {"truth": truth, "mean": bright},
        tmp_path / "a.png",
        spread={"std": error / 10, "|error|": error},
        residual={"misfit": misfit},
        scores={"mean": 31.25},
        coords=COORDS,
        unit="a.u.",
        heading="all",
    )
    assert path.read_bytes().startswith(b"\x89PNG") and [p.name for p in tmp_path.iterdir()] == ["a.png"]
    assert np.ptp(matplotlib.image.imread(path)[..., :3]) > 0.9  # not blank
    axes = pictures(figures[0])
    assert list(axes) == ["truth", "mean, 31.2 dB", "std", "|error|", "misfit"]
    scales = {name: a.get_images()[0].get_clim() for name, a in axes.items()}
    assert scales["truth"] == scales["mean, 31.2 dB"] == (0, 2)  # the truth's, in which the brighter image is white
    assert scales["std"] == scales["|error|"] and scales["std"][1] == pytest.approx(1, rel=0.01)
    np.testing.assert_array_equal(axes["mean, 31.2 dB"].get_images()[0].get_array(), 6.0)  # a magnitude
    assert axes["mean, 31.2 dB"].get_images()[0].colorbar.extend == "max"
    assert axes["truth"].get_images()[0].colorbar.extend == "neither"
    # 20 rows 2 mm apart from 0, 30 columns 1 mm apart from -15: pixels end half a step beyond their centres.
    assert axes["truth"].get_images()[0].get_extent() == [-15.5, 14.5, 39.0, -1.0]
    assert axes["truth"].get_xlabel() == "x (mm)" and axes["misfit"].get_xlabel() == "k_x"
    assert axes["misfit"].get_images()[0].get_extent() == [-15.5, 14.5, 9.5, -10.5]  # centre n // 2 is 0


def test_panel_without_coordinates_counts_pixels(tmp_path: Path, figures: list) -> None:
    panel({"zero": np.zeros((4, 6))}, tmp_path / "a.png", coords={"y": (("y",), np.arange(4), {"units": "px"})})
    (axes,) = pictures(figures[0]).values()
    assert axes.get_xlabel() == "column" and axes.get_images()[0].get_extent() == [-0.5, 5.5, 3.5, -0.5]
    assert axes.get_images()[0].get_clim() == (0, 1)


def test_panel_of_a_tomograph(tmp_path: Path, figures: list) -> None:
    coords = {name: ((name,), np.arange(4) - 1.5, {"units": "pixel"}) for name in "yx"}
    residual = {"misfit": np.ones((3, 6))}
    panel({"a": np.ones((4, 4))}, tmp_path / "a.png", residual=residual, coords=coords, unit="1/pixel", sinogram=True)
    axes = pictures(figures[0])
    assert axes["a"].get_xlabel() == "x (pixel)" and axes["misfit"].get_xlabel() == "channel"
    assert axes["misfit"].get_ylabel() == "view" and axes["misfit"].get_images()[0].get_extent() == [
        -0.5,
        5.5,
        2.5,
        -0.5,
    ]
    assert axes["a"].get_images()[0].colorbar.ax.get_ylabel() == "value (1/pixel)"


def test_panel_refuses_volumes_and_leaves_nothing_behind(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(ShapeError, match="'volume' of shape \\(2, 3, 4\\)"):
        panel({"volume": np.zeros((2, 3, 4))}, tmp_path / "a.png")
    with pytest.raises(FileError, match="nowhere"):
        panel({"image": np.zeros((3, 4))}, tmp_path / "nowhere" / "a.png")
    from matplotlib.figure import Figure

    def full(self, path, **_) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(FileError, match="disk full"):
        panel({"image": np.zeros((3, 4))}, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_panel_leaves_pyplot_alone() -> None:
    assert "pyplot" not in Path(module.__file__).read_text()
