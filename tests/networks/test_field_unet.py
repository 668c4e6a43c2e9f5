"""The field U-Net and what lies beyond the rim of its grid."""

import pytest
import torch

from invdiff.errors import InputError
from invdiff.networks.field_unet import FieldUNet
from invdiff.networks.sphere_padding import Rim, pad_sphere, rim_of
from invdiff.networks.tiles import Tiled, tile_for

BETWEEN = Rim(True, "between", "between")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def live(net: FieldUNet, seed: int = 1) -> FieldUNet:
    """All weights random, so that nothing is hidden behind the zero last layer."""
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(0.1 * torch.randn(p.shape, generator=rng(seed)))
    return net.eval()


def test_rim_is_read_off_the_coordinates() -> None:
    lon = [i * 45.0 - 180 for i in range(8)]
    assert rim_of([67.5, 22.5, -22.5, -67.5], lon) == BETWEEN
    assert rim_of([90.0, 30.0, -30.0, -90.0], lon) == Rim(True, "on", "on")
    assert rim_of([60.0, 30.0, 0.0], lon) == Rim(True)
    assert rim_of([58.0, 57.0], [-10.0, -9.0, -8.0]) == Rim()
    assert rim_of([58.0, 57.0], [0.0, 90.0, 180.0, 270.0]) == Rim(True)
    with pytest.raises(InputError, match="even number"):
        rim_of([60.0, -60.0], [0.0, 120.0, 240.0])


def test_beyond_the_pole_is_the_opposite_meridian() -> None:
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    out = pad_sphere(x, BETWEEN)
    assert out.shape == (1, 1, 5, 6)
    assert out[0, 0, 0, 1:5].tolist() == [2.0, 3.0, 0.0, 1.0]  # the first row itself, half a turn on
    assert out[0, 0, -1, 1:5].tolist() == [10.0, 11.0, 8.0, 9.0]
    assert out[0, 0, 1].tolist() == [3.0, 0.0, 1.0, 2.0, 3.0, 0.0]
    on = pad_sphere(x, Rim(True, "on", "none"))
    assert on[0, 0, 0, 1:5].tolist() == [6.0, 7.0, 4.0, 5.0]  # the row before the pole's
    assert on[0, 0, -1, 1:5].tolist() == [8.0, 9.0, 10.0, 11.0]  # an edge is repeated
    turned = pad_sphere(x.expand(1, 2, 3, 4), BETWEEN, (True, False))
    assert turned[0, 0, 0, 1] == -2.0 and turned[0, 1, 0, 1] == 2.0


def test_a_vector_is_continuous_across_the_pole() -> None:
    """The constant vector along the x axis of space, in components east and north, padded: what is true there."""
    lat = torch.arange(75.0, -90.0, -30.0).deg2rad()
    lon = (torch.arange(8) * 45.0).deg2rad()
    east = (-lon.sin()).expand(6, 8)
    north = -lat.sin()[:, None] * lon.cos()
    out = pad_sphere(torch.stack([east, north])[None], BETWEEN, (True, True))
    beyond = torch.tensor(105.0).deg2rad()  # the row beyond the pole, on the same meridians, seen without turning round
    # east, carried over the pole without turning, is still -sin(lon) there
    assert torch.allclose(out[0, 0, 0, 1:9], -lon.sin(), atol=1e-6)
    assert torch.allclose(out[0, 1, 0, 1:9], -beyond.sin() * lon.cos(), atol=1e-6)


@pytest.mark.parametrize("rim", [Rim(True), BETWEEN, Rim(True, "on", "on")])
def test_turning_the_globe_turns_the_answer(rim: Rim) -> None:
    net = live(FieldUNet(3, 2, [6, 8], 1, 16, rim=rim, vectors=(True, True, False)))
    x, level = torch.randn(2, 3, 7 if rim.first == "on" else 6, 8, generator=rng()), torch.tensor([0.1, -0.4])
    turned = net(x.roll(2, 3), level)  # by as much as the coarser level can tell
    assert torch.allclose(turned, net(x, level).roll(2, 3), atol=1e-5)
    assert not torch.allclose(turned, net(x, level), atol=1e-3)


def test_untrained_is_zero_and_any_size_of_an_area_goes() -> None:
    net = FieldUNet(2, 1, [8, 8], 1, 16, fold=2)
    assert not bool(net(torch.randn(1, 2, 13, 10, generator=rng()), torch.zeros(1)).any())
    assert live(net)(torch.randn(1, 2, 13, 10, generator=rng()), torch.zeros(1)).shape == (1, 1, 13, 10)
    with pytest.raises(InputError, match="fold"):
        FieldUNet(2, 1, [8], fold=2, rim=BETWEEN)
    with pytest.raises(InputError, match="longitudes all the way round"):
        FieldUNet(1, 1, [8, 8], rim=Rim(True))(torch.zeros(1, 1, 4, 7), torch.zeros(1))


def test_tiles_with_a_wide_halo_are_the_whole() -> None:
    net = live(FieldUNet(2, 1, [4, 4], 1, 8, rim=BETWEEN))
    x, level = torch.randn(1, 2, 24, 32, generator=rng()), torch.zeros(1)
    # Two levels with a block each way look 3 + 2 * (2 + 2) + ... < 24 points far.
    whole, tiled = net(x, level), Tiled(net, 8, 24)(x, level)
    inner = slice(8, 16)  # beyond the poles hidden features are turned, the tiles' values are: near them only alike
    assert torch.allclose(whole[..., inner, :], tiled[..., inner, :], atol=1e-4)
    assert not torch.allclose(whole[..., inner, :], Tiled(net, 8, 0)(x, level)[..., inner, :], atol=1e-3)
    assert net.rim == BETWEEN
    with pytest.raises(InputError, match="multiples"):
        Tiled(net, 7, 2)


def test_tile_size_follows_the_memory() -> None:
    net = FieldUNet(2, 1, [16, 16], 1, 8)
    assert tile_for(net, 2**30, 64, 64) is None
    small = tile_for(net, 2**20, 512, 512)
    assert small is not None and 8 <= small < 512 and small % 2 == 0
