"""BART arrays both ways: the first axis is the fastest, and files that do not fit each other are refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from invdiff.datasets import reading
from invdiff.datasets.raw import bart
from invdiff.errors import FileError, FormatError, InputError
from invdiff.posterior import Posterior


def values(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


def test_layout(tmp_path: Path) -> None:
    kspace = values(3, 4, 5)  # coils, rows, columns
    assert bart.write(tmp_path / "k.cfl", kspace, ("coil", "x", "y")) == tmp_path / "k.cfl"
    assert (tmp_path / "k.hdr").read_text().split()[:6] == ["#", "Dimensions", "4", "5", "1", "3"]
    stored = np.fromfile(tmp_path / "k.cfl", np.complex64)
    assert stored[1] == kspace[0, 1, 0] and stored[4] == kspace[0, 0, 1] and stored[20] == kspace[1, 0, 0]
    np.testing.assert_array_equal(bart.read_array(tmp_path / "k"), kspace.transpose(1, 2, 0)[:, :, None])


@pytest.mark.parametrize("axes", [("coil", "x", "y"), ("coil", "y", "z"), ("coil", "x", "z")])
def test_kspace(tmp_path: Path, axes: tuple[str, ...]) -> None:
    kspace = values(3, 4, 5)
    kspace[..., 2] = 0
    bart.write(tmp_path / "k", kspace, axes)
    for name in ("k.cfl", "k.hdr", "k"):
        raw = bart.read(tmp_path / name)
        np.testing.assert_array_equal(raw.kspace.numpy(), kspace)
        assert raw.mask.tolist() == [True, True, False, True, True]
    measurement = reading.read(tmp_path / "k.cfl", sigma=0.1, coil_maps=torch.ones(3, 4, 5))
    assert measurement.y.shape == (3, 4, 5)


def test_slices(tmp_path: Path) -> None:
    kspace = values(2, 3, 4, 5)
    bart.write(tmp_path / "k.cfl", kspace, ("slice", "coil", "x", "y"))
    np.testing.assert_array_equal(bart.read(tmp_path / "k.cfl").kspace.numpy(), kspace)
    np.testing.assert_array_equal(bart.read(tmp_path / "k.cfl", 1).kspace.numpy(), kspace[1])
    with pytest.raises(InputError, match="holds 2 slice"):
        bart.read(tmp_path / "k.cfl", 2)


def test_posterior(tmp_path: Path) -> None:
    draws = torch.from_numpy(values(2, 1, 3, 4))
    Posterior.from_draws(draws).save(tmp_path / "out.cfl")
    names = ["out_mean.cfl", "out_mean.hdr", "out_std.cfl", "out_std.hdr"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    np.testing.assert_allclose(bart.read_array(tmp_path / "out_mean.cfl"), draws.mean(0)[0].numpy(), atol=1e-6)


def test_bad_files(tmp_path: Path) -> None:
    path = bart.write(tmp_path / "k.cfl", values(3, 4, 5), ("coil", "x", "y"))
    whole, text = path.read_bytes(), (tmp_path / "k.hdr").read_text()
    for content, header, said in [
        (whole[:-8], text, "has 472 bytes; dimensions .* need 480"),
        (b"", text, "empty"),
        (whole, "hello", "has no '# Dimensions'"),
        (whole, text.replace("4 5", "4 x"), "has no '# Dimensions' with whole numbers"),
        (whole, text.replace("4 5", "-4 -5"), "numbers above 0"),
        (whole, "# Dimensions\n60\n", "expected k-space of a plane"),
        (bytes(480), text, "zero everywhere"),
    ]:
        path.write_bytes(content)
        (tmp_path / "k.hdr").write_text(header)
        with pytest.raises(FormatError, match=said):
            bart.read(path)
    (tmp_path / "k.hdr").unlink()
    assert not bart.recognise(path)
    with pytest.raises(FileError, match="k.hdr does not exist"):
        bart.read(path)


def test_wrong_axes(tmp_path: Path) -> None:
    for axes in (("x", "y"), ("x", "x", "y"), ("x", "y", "colour")):
        with pytest.raises(InputError, match="axes are"):
            bart.write(tmp_path / "k", values(3, 4, 5), axes)
    with pytest.raises(FileError, match="create"):
        bart.write(tmp_path / "none" / "k", values(4, 5), ("x", "y"))
    assert list(tmp_path.iterdir()) == []
