"""DICOM in: stored pixels, however they are packed, are what the scanner stored, or refused in words."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from invdiff.datasets import dicom
from invdiff.errors import FormatError, MissingExtraError

Make = Callable[..., Dataset]


@pytest.mark.parametrize("padding", [-2000, 63536])  # the second is the first, read without its sign
def test_padding_is_masked(
    tmp_path: Path, make_ct: Make, stored: np.ndarray, positions: np.ndarray, padding: int
) -> None:
    stored[0, :2] = -2000
    image = make_ct(stored[0], positions[0])
    image.add_new("PixelPaddingValue", "SS" if padding < 0 else "US", padding)
    image.save_as(tmp_path / "a.dcm")
    volume = dicom.read(tmp_path / "a.dcm")
    assert volume.mask is not None
    np.testing.assert_array_equal(~volume.mask[0], stored[0] == -2000)
    assert (volume.values[0, :2] == -1000).all()
    assert (volume.values[0, 2:] == stored[0, 2:] * 2.0 - 1024).all()


@pytest.mark.filterwarnings("ignore:.*missing:RuntimeWarning")
@pytest.mark.parametrize("name", ["RLE", "jpeg_ls_lossless", "jp2klossless", "bigendian", "implicit"])
def test_transfer_syntaxes_of_real_files(name: str) -> None:
    from pydicom.data import get_testdata_file

    path = str(get_testdata_file(f"MR_small_{name}.dcm", download=False))
    try:
        volume = dicom.read(path)
    except MissingExtraError as error:
        pytest.skip(f"{error}")
    np.testing.assert_array_equal(volume.values, dicom.read(str(get_testdata_file("MR_small.dcm"))).values)


@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")
def test_colour_is_refused() -> None:
    from pydicom.data import get_testdata_file

    with pytest.raises((FormatError, MissingExtraError), match="colour image|has no ImagePositionPatient"):
        dicom.read(str(get_testdata_file("SC_rgb_jpeg_gdcm.dcm", download=False)))


def test_compressed(series: Path, stored: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in series.iterdir():
        image = pydicom.dcmread(path)
        image.compress(RLELossless, generate_instance_uid=False)
        image.save_as(path)
    np.testing.assert_array_equal(dicom.read(series).values, stored * 2.0 - 1024)
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.is_available", property(lambda self: False))
    with pytest.raises(MissingExtraError, match=r"compressed \(RLE Lossless\), for which no decoder"):
        dicom.read(series)


def test_a_decoder_that_cannot_do_it(series: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Dataset) -> np.ndarray:
        raise RuntimeError(
            "all plugins failed:\n  pillow: Pillow does not support 'JPEG Extended' with 12-bit precision"
        )

    monkeypatch.setattr(pydicom.dataset.Dataset, "pixel_array", property(refused))
    with pytest.raises(MissingExtraError, match="6.dcm: pillow: .*12-bit precision: pip install pylibjpeg"):
        dicom.read(series / "6.dcm")
