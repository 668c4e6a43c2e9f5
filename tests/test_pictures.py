import io

import matplotlib.image
import numpy as np
import pytest

from invdiff.errors import InputError, ShapeError
from invdiff.pictures import GREY, data_uri, png, scale_bar


def test_png_holds_the_values_on_the_scale() -> None:
    values = np.linspace(-1, 3, 12).reshape(3, 4)
    read = matplotlib.image.imread(io.BytesIO(png(values, 0.0, 2.0, GREY)))
    assert read.shape[:2] == (3, 4)
    # Rounded to 254 steps; below and above the scale its ends.
    np.testing.assert_allclose(read[..., 0], np.clip(values / 2, 0, 1), atol=0.5 / 254 + 1 / 255)


def test_missing_values_have_a_colour_of_their_own() -> None:
    read = matplotlib.image.imread(io.BytesIO(png(np.array([[np.nan, 0.0, 1.0]]), 0, 1)))
    assert read[0, 0, 2] > read[0, 0, 0]  # bluish, and grey scales are not
    assert read[0, 1, 0] == 0 and read[0, 2, 0] == 1


def test_pictures_are_small_and_need_no_file() -> None:
    assert data_uri(np.zeros((64, 64)), 0, 1).startswith("data:image/png;base64,iVBORw0KGgo")
    assert len(data_uri(np.random.default_rng(0).random((64, 64)), 0, 1)) < 64 * 64 * 4 / 3 + 1500
    assert len(scale_bar()) < 2500


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(ShapeError, match="shape"):
        png(np.zeros(3), 0, 1)
    with pytest.raises(InputError, match="scale"):
        png(np.zeros((3, 3)), 1, 1)
