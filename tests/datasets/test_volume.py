"""Volume: values that stand somewhere."""

import numpy as np
import pytest

from invdiff.datasets.volume import Volume, from_attributes
from invdiff.errors import FormatError, InputError, ShapeError

AFFINE = np.array([[0.0, 0, 2, 10], [0, 3, 0, 20], [4, 0, 0, 30], [0, 0, 0, 1]])


def test_place() -> None:
    volume = Volume(np.zeros((2, 3, 4)), AFFINE)
    assert volume.values.dtype == np.float32
    assert volume.spacing == pytest.approx((4, 3, 2))
    np.testing.assert_array_equal(volume.world([(0, 0, 0), (1, 2, 3)]), [(10, 20, 30), (16, 26, 34)])
    assert volume.coords()["x"][1].tolist() == [0, 2, 4, 6]


def test_slices() -> None:
    volume = Volume(np.arange(24).reshape(4, 2, 3), AFFINE, meta={"files": [["a", 0], ["b", 0], ["c", 0], ["d", 0]]})
    part = volume.take([3, 1])
    np.testing.assert_array_equal(part.values, volume.values[[3, 1]])
    np.testing.assert_array_equal(part.world((1, 0, 0)), volume.world((1, 0, 0)))
    assert part.spacing[0] == 8 and part.meta["files"] == [["d", 0], ["b", 0]]
    for wrong in ([0, 1, 3], [], [4], [1, 1]):
        with pytest.raises(InputError, match="evenly spaced numbers from 0 to 3"):
            volume.take(wrong)


def test_attributes_come_back() -> None:
    volume = Volume(np.ones((2, 3, 4)), AFFINE, "HU", meta={"format": "dicom", "files": [["a", 0]]})
    back = from_attributes(volume.attributes())
    assert back is not None and back.values.shape == (2, 3, 4) and back.units == "HU" and back.meta == volume.meta
    np.testing.assert_array_equal(back.affine, AFFINE)
    assert from_attributes({}) is None
    with pytest.raises(FormatError, match="attribute geometry cannot be read"):
        from_attributes({"geometry": "{}"})


def test_wrong_volumes() -> None:
    with pytest.raises(ShapeError, match=r"expects \(slices, rows, columns\)"):
        Volume(np.zeros((3, 4)), AFFINE)
    with pytest.raises(ShapeError, match=r"expects \(4, 4\)"):
        Volume(np.zeros((2, 3, 4)), np.eye(3))
    with pytest.raises(InputError, match="to a plane"):
        Volume(np.zeros((2, 3, 4)), np.diag([1.0, 0, 1, 1]))
    with pytest.raises(InputError, match="finite"):
        Volume(np.zeros((2, 3, 4)), np.full((4, 4), np.nan))
    with pytest.raises(ShapeError, match="expected bool"):
        Volume(np.zeros((2, 3, 4)), AFFINE, mask=np.ones((2, 3), bool))
    with pytest.raises(ShapeError, match="this volume holds"):
        Volume(np.zeros((2, 3, 4)), AFFINE).with_values(np.zeros(3))
