import pytest
import torch

from invdiff.datasets.phantoms.volumes import head_volume
from invdiff.errors import ShapeError


def test_a_head_stands_in_air_and_is_drawn_anew_by_each_seed():
    one, same, other = (head_volume(torch.Generator().manual_seed(s), (48, 56, 40)) for s in (0, 0, 1))
    assert one.shape == (48, 56, 40) and one.dtype == torch.float32
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert 0 <= float(one.min()) and 0.75 < float(one.max()) <= 0.9
    assert float(one[0, 0].max()) < 1e-3  # a corner is air
    inside = one[20:28, 24:32, 16:24]
    assert 0.25 < float(inside.min()) and float(inside.max()) < 0.75  # bone is outside only


def test_flat_heads_are_refused():
    with pytest.raises(ShapeError, match="three axes"):
        head_volume(torch.Generator(), (24, 24))
