"""Where training images come from: files, positions, and what the network is told."""

from pathlib import Path

import numpy as np
import pytest
import torch

from invdiff.errors import FileError, FormatError, InputError, ShapeError
from invdiff.priors.adapters.network import positions
from invdiff.training.config import TrainConfig
from invdiff.training.data import PatchStream, PhantomSource
from invdiff.training.data_config import DataConfig, ImagesConfig
from invdiff.training.image_files import find_images
from invdiff.training.images import ImageSource, relative
from invdiff.training.sources import make_source


def folder_of_images(path: Path, n: int = 3) -> Path:
    rng = np.random.default_rng(0)
    for i in range(n):
        np.save(path / f"image_{i}.npy", i + 1 + rng.random((2, 40, 36)))
    (path / "notes.txt").write_text("not an image")
    return path


def test_a_folder_of_images_is_a_source(tmp_path: Path) -> None:
    folder_of_images(tmp_path)
    found, refused = find_images([tmp_path])
    assert [i.name for i in found] == ["image_0.npy", "image_1.npy", "image_2.npy"] and "notes.txt" in refused[0]
    config = TrainConfig(
        name="a",
        domain="real",
        data={"kind": "images", "paths": [str(tmp_path)], "patch": 16},
    )
    source = make_source(config, tmp_path / "cache")
    assert isinstance(source, ImageSource) and len(source.training) == 4 and len(source.rest) == 2
    batch = source.batch(3, 5)
    assert batch.x.shape == (5, 1, 16, 16) and batch.condition is None
    assert torch.equal(batch.x, source.batch(3, 5).x) and not torch.equal(batch.x, source.batch(4, 5).x)
    assert torch.quantile(relative(found[1].values), 0.99) == pytest.approx(0.8, rel=1e-5)
    # the held-out file is never trained on: its values, scaled, have another spread of grey
    trained = torch.cat([source.batch(k, 8).x.flatten() for k in range(20)])
    assert not torch.isin(source.held_out(0, 8).x.flatten(), trained).any()


def test_units_of_ones_own_and_complex(tmp_path: Path) -> None:
    np.save(tmp_path / "ct.npy", np.full((4, 20, 20), 40.0) + np.arange(4)[:, None, None])
    config = ImagesConfig(kind="images", paths=[str(tmp_path)], patch=16, shift=40, factor=1000)
    source = ImageSource(config, "complex", 0)
    x = source.batch(0, 50).x
    assert x.shape[1] == 2 and set((1000 * x[:, 0]).round().flatten().tolist()) == {0.0, 1.0, 2.0}
    assert float(x[:, 1].abs().max()) == 0 and source.card["affine"] == {"shift": 40, "factor": 1000}
    with pytest.raises(ShapeError, match="larger"):
        ImageSource(config.model_copy(update={"patch": 32}), "real", 0)
    np.save(tmp_path / "ct.npy", np.ones((1, 20, 20)))
    with pytest.raises(InputError, match="hold one out"):
        ImageSource(config, "real", 0)
    with pytest.raises(ValueError, match="shift goes with factor"):
        ImagesConfig(kind="images", paths=["a"], shift=3)


def test_what_is_no_image_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="does not exist"):
        find_images([tmp_path / "none"])
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(FormatError, match=r"a\.txt"):
        find_images([tmp_path])
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    _, refused = find_images([folder_of_images(tmp_path)])
    assert any("pickled.npy" in line for line in refused)


def test_positions_are_those_of_the_image(tmp_path: Path) -> None:
    np.save(tmp_path / "ramp.npy", positions((40, 30)).sum(0).numpy()[None].repeat(3, 0))
    config = ImagesConfig(kind="images", paths=[str(tmp_path)], patch=16, position=True, factor=1.0)
    batch = ImageSource(config, "real", 0).batch(0, 6)
    assert batch.condition is not None
    torch.testing.assert_close(batch.x[:, 0], batch.condition.sum(1))
    image = positions((32, 32)).sum(0)[None].half()
    x, where = PatchStream([image], 16, "real", 0, 0.0, True).with_positions(0, 6)
    assert where is not None
    ratio = x[:, 0] / where.sum(1).half()  # up to the random brightness of each
    kept = where.sum(1).abs() > 0.1
    for r, k in zip(ratio, kept, strict=True):
        assert float(r[k].std() / r[k].mean()) < 2e-2
    data = DataConfig(kinds=["leaves"], pool=8, sizes=[32], patch=16, position=True)
    source = PhantomSource(data, "complex", 0, tmp_path / "cache")
    batch = source.batch(0, 2)
    assert source.conditions == 2 and batch.condition is not None and batch.condition.shape == (2, 2, 16, 16)


def test_real_series(tmp_path: Path) -> None:
    import os

    root = os.environ.get("INVDIFF_DATA")
    if not root:
        pytest.skip("INVDIFF_DATA is not set")
    found, refused = find_images([Path(root) / "mri"])
    by_name = {i.name: tuple(i.values.shape) for i in found}
    assert by_name["t1w_dicom"] == (96, 384, 274) and by_name["t1_coronal_slice.npy"] == (1, 256, 256)
    assert any("12 % of k-space" in line for line in refused)
