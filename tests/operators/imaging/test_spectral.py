"""Band response, coded aperture and masks over bands, against their sums written out."""

import math

import pytest
import torch

from invdiff.errors import InputError, ShapeError
from invdiff.operators import BandResponse, CodedAperture, Inpainting
from invdiff.operators.imaging.inpainting import box_mask, random_pixels, stripes_mask
from invdiff.operators.imaging.spectral import normalised_response


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_band_response_is_a_product_over_wavelengths():
    response, x = randn(3, 7), randn(2, 7, 4, 5, seed=1)
    found = BandResponse(response, (7, 4, 5)).forward(x)
    torch.testing.assert_close(found, torch.einsum("bl,nlhw->nbhw", response, x), rtol=0, atol=1e-12)
    means = normalised_response(response.abs())
    torch.testing.assert_close(means.sum(1), torch.ones(3, dtype=torch.float64))
    with pytest.raises(ShapeError, match=r"\(m, 6\)"):
        BandResponse(response, (6, 4, 5))
    with pytest.raises(InputError, match="sum to more"):
        normalised_response(torch.zeros(2, 3))


@pytest.mark.parametrize("dispersion", [0, 1, 2])
@pytest.mark.parametrize("per_band", [True, False])
def test_snapshot_is_the_sheared_sum(dispersion, per_band):
    mask, x = randn(*((3, 4, 5) if per_band else (4, 5))), randn(2, 3, 4, 5, seed=1)
    y = CodedAperture(mask, (3, 4, 5), dispersion).forward(x)
    full = mask if per_band else mask.expand(3, 4, 5)
    assert y.shape == (2, 1, 4, 5 + 2 * dispersion)
    for w in range(y.shape[-1]):
        terms = [full[b, :, w - dispersion * b] * x[:, b, :, w - dispersion * b]
                 for b in range(3) if 0 <= w - dispersion * b < 5]  # fmt: skip
        torch.testing.assert_close(y[:, 0, :, w], sum(terms), rtol=0, atol=1e-12)
    with pytest.raises(ShapeError, match="mask"):
        CodedAperture(mask[..., :4], (3, 4, 5))
    for bad in (-1, 0.5):
        with pytest.raises(InputError, match="dispersion"):
            CodedAperture(mask, (3, 4, 5), bad)  # type: ignore[arg-type]


def test_masks():
    rng = torch.Generator().manual_seed(0)
    assert int(random_pixels((10, 20), 0.37, rng=rng).sum()) == 74
    assert not torch.equal(random_pixels((10, 20), 0.4, rng=rng), random_pixels((10, 20), 0.4, rng=rng))
    box = box_mask((6, 7), (1, 2), (3, 4))
    assert int((~box).sum()) == 12 and not box[1, 2] and not box[3, 5] and box[4, 2] and box[1, 6]
    lines = stripes_mask((3, 4, 5), [0, 4])
    assert not lines[:, :, [0, 4]].any() and lines[:, :, 1:4].all()
    for bad in (0.0, 1.5, math.nan, 1e-9):
        with pytest.raises(InputError, match="observed"):
            random_pixels((10, 20), bad, rng=rng)
    with pytest.raises(InputError, match="inside"):
        box_mask((6, 7), (4, 0), (3, 3))
    with pytest.raises(InputError, match="from 0 to 4"):
        stripes_mask((3, 4, 5), [5])


def test_inpainting():
    x, mask = randn(2, 3, 4, 5), torch.rand(4, 5, generator=torch.Generator().manual_seed(1)) < 0.5
    op = Inpainting(mask.double(), (3, 4, 5))  # 0 and 1 are booleans
    assert torch.equal(op.forward(x), x * mask) and op.size == 3 * int(mask.sum())
    z = torch.complex(x, randn(2, 3, 4, 5, seed=2))
    assert torch.equal(Inpainting(mask, (3, 4, 5), "complex").forward(z), z * mask)
    with pytest.raises(InputError, match="other values"):
        Inpainting(0.5 * mask, (3, 4, 5))
    with pytest.raises(InputError, match="false everywhere"):
        Inpainting(torch.zeros(4, 5), (3, 4, 5))
    with pytest.raises(ShapeError, match="broadcast"):
        Inpainting(mask, (3, 5, 4))
