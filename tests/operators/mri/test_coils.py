"""ESPIRiT against known maps, against sigpy and against its own definition."""

import itertools

import numpy as np
import pytest
import torch

from invdiff.errors import DTypeError, InputError, ShapeError
from invdiff.operators.fourier import fft2c, ifft2c
from invdiff.operators.mri.coils import calibration_region, espirit
from invdiff.operators.mri.sense import MRI

COILS, SIZE = 6, (48, 40)


def grid(shape):
    return torch.meshgrid(*(torch.linspace(-1, 1, n) for n in shape), indexing="ij")


def smooth_maps(shape=SIZE, coils=COILS, turn=0.0):
    yy, xx = grid(shape)
    angle = 2 * torch.pi * (torch.arange(coils)[:, None, None] + turn) / coils
    away = (yy - 1.4 * angle.sin()) ** 2 + (xx - 1.4 * angle.cos()) ** 2
    maps = torch.polar(torch.exp(-away / 2), angle + 0.4 * yy * angle.cos())
    return maps / torch.linalg.vector_norm(maps, dim=0)


def simulated(sigma=1e-3, seed=0, shape=SIZE, turn=0.0):
    """k-space (coils, H, W), its maps and where the object is."""
    rng = torch.Generator().manual_seed(seed)
    yy, xx = grid(shape)
    inside = (yy / 0.8) ** 2 + (xx / 0.75) ** 2 < 1
    image = inside * (0.5 + torch.rand(shape, generator=rng)) * torch.polar(torch.ones(shape), 1.5 * xx + yy)
    maps = smooth_maps(shape, turn=turn)
    noise = torch.randn(COILS, *shape, dtype=torch.complex64, generator=rng)
    return fft2c(maps * image) + sigma * noise, maps, inside


def alignment(a, b):
    """|<a, b>| of unit coil vectors (coils, H, W), pixel by pixel."""
    return (a.conj() * b).sum(0).abs()


def test_region_is_the_largest_centred_rectangle():
    rng = torch.Generator().manual_seed(0)
    for trial in range(30):
        rows, columns = 5 + trial % 4, 4 + trial % 5
        mask = torch.rand(rows, columns, generator=rng) < 0.9
        y, x = calibration_region(mask)
        area = (y.stop - y.start) * (x.stop - x.start)
        assert bool(mask[y, x].all())
        best = 0
        for h, w in itertools.product(range(1, rows + 1), range(1, columns + 1)):
            top, left = rows // 2 - h // 2, columns // 2 - w // 2
            if bool(mask[top : top + h, left : left + w].all()):
                best = max(best, h * w)
        assert area == best
        if area:
            assert (y.start, x.start) == (
                rows // 2 - (y.stop - y.start) // 2,
                columns // 2 - (x.stop - x.start) // 2,
            )


def test_region_of_a_phase_encode_mask():
    mask = torch.zeros(20, 33, dtype=torch.bool)
    mask[:, ::4] = True
    mask[:, 12:20] = True  # the centre is 16: 12 ... 19 is the centred window of 8, and 20 is a fourth column
    assert calibration_region(mask) == (slice(0, 20), slice(12, 21))


def test_finds_the_maps_of_a_simulation():
    kspace, truth, inside = simulated()
    maps, values = espirit(kspace)
    assert maps.shape == (1, 1, COILS, *SIZE) and values.shape == (1, 1, *SIZE)
    found = alignment(maps[0, 0], truth)[inside]
    assert float(found.min()) > 0.999
    assert float(values[0, 0][inside].min()) > 0.95 and float(values.max()) < 1 + 1e-4


def test_length_and_crop():
    kspace, _, _ = simulated()
    maps, values = espirit(kspace, crop=0.9)
    length = torch.linalg.vector_norm(maps, dim=2)
    torch.testing.assert_close(length, (values > 0.9).float(), rtol=0, atol=1e-5)
    assert 0.2 < float(length.mean()) < 0.95
    whole, _ = espirit(kspace, crop=0)
    torch.testing.assert_close(torch.linalg.vector_norm(whole, dim=2), torch.ones(1, 1, *SIZE), rtol=0, atol=1e-5)
    torch.testing.assert_close(maps, whole * length[:, :, None].round(), rtol=0, atol=1e-6)


def test_margin_grows_the_support():
    kspace, _, _ = simulated()
    support = [torch.linalg.vector_norm(espirit(kspace, margin=m)[0], dim=2)[0, 0] > 0.5 for m in (0, 2)]
    grown = torch.zeros_like(support[0])
    for dy, dx in itertools.product(range(-2, 3), repeat=2):
        ys, xs = (support[0].nonzero() + torch.tensor([dy, dx])).T
        keep = (ys >= 0) & (ys < SIZE[0]) & (xs >= 0) & (xs < SIZE[1])
        grown[ys[keep], xs[keep]] = True
    assert torch.equal(support[1], grown)


def test_phase_reference():
    kspace, _, inside = simulated()
    fourth = espirit(kspace, phase_reference=3)[0][0, 0]
    torch.testing.assert_close(fourth[3].angle()[inside], torch.zeros(int(inside.sum())), rtol=0, atol=1e-5)
    # The virtual coil is the first principal component of the calibration data, whatever its sign.
    maps = espirit(kspace)[0][0, 0]
    rows, columns = (slice(n // 2 - 12, n // 2 + 12) for n in SIZE)
    data = kspace[:, rows, columns].flatten(1)
    virtual = torch.einsum("c,cyx->yx", torch.linalg.svd(data, full_matrices=False)[0][:, 0].conj(), maps)
    phase = virtual[inside] / virtual[inside].abs()
    assert float((phase - phase[0]).abs().max()) < 1e-3


def test_problems_are_independent():
    parts = [simulated(seed=s, turn=0.3 * s)[0] for s in (1, 2)]
    maps, values = espirit(torch.stack(parts))
    for i, part in enumerate(parts):
        alone = espirit(part)
        torch.testing.assert_close(maps[i], alone[0][0], rtol=0, atol=1e-5)
        torch.testing.assert_close(values[i], alone[1][0], rtol=0, atol=1e-5)


def test_two_sets_explain_an_object_larger_than_the_field_of_view():
    tall = (72, 40)
    kspace, _, _ = simulated(shape=tall)
    images = ifft2c(kspace)
    images = images[:, 12:60] + torch.nn.functional.pad(images[:, 60:], (0, 0, 0, 36)) * 1.0  # fold the lower end over
    folded = fft2c(images)

    def unexplained(n_sets):
        maps, values = espirit(folded, crop=0, n_sets=n_sets)
        assert bool((values[:, 0] >= values[:, -1]).all())
        inner = torch.einsum("sayx,sbyx->abyx", maps[0].transpose(0, 1).conj(), maps[0].transpose(0, 1))
        eye = torch.eye(n_sets)[:, :, None, None].expand_as(inner).to(inner)
        torch.testing.assert_close(inner, eye, rtol=0, atol=1e-4)
        x = (maps[0].conj() * images).sum(1, keepdim=True)
        rest = images - (maps[0] * x).sum(0)
        return float(torch.linalg.vector_norm(rest) / torch.linalg.vector_norm(images))

    assert unexplained(2) < 0.02 < 0.05 < unexplained(1)


def test_maps_go_straight_into_the_operator():
    kspace, _, inside = simulated()
    op = MRI(espirit(kspace)[0], torch.ones(SIZE[1], dtype=torch.bool))
    again = op.forward(op.adjoint(kspace[None]))
    # All but the noise outside the object and that of 5 of 6 coils is in the image.
    assert float(torch.linalg.vector_norm(again - kspace) / torch.linalg.vector_norm(kspace)) < 0.02


def compare_with_sigpy(kspace, side=24):
    app = pytest.importorskip("sigpy.mri.app")
    calibration = app.EspiritCalib(kspace.numpy(), side, crop=0, show_pbar=False, output_eigenvalue=True)
    theirs, values = calibration.run()
    theirs, values = torch.from_numpy(theirs), torch.from_numpy(np.ascontiguousarray(values.real))[0]
    maps, ours = espirit(kspace, (side, side), crop=0, phase_reference=0)
    support = values > 0.95
    assert 0.2 < float(support.float().mean()) < 1
    assert float(alignment(maps[0, 0], theirs)[support].min()) > 0.999
    seen = support & (theirs[0].abs() > 0.05)  # the phase, too, where the reference coil has one
    assert float((maps[0, 0].conj() * theirs).sum(0).real[seen].min()) > 0.999
    assert float((ours[0, 0] - values)[support].abs().max()) < 1e-3
    assert int(((ours[0, 0] > 0.95) != support).sum()) <= 2  # pixels on the threshold


@pytest.mark.parametrize("side", [24, 13], ids=["more patches than their length", "fewer"])
def test_agrees_with_sigpy(side):
    compare_with_sigpy(simulated()[0], side)


def test_agrees_with_sigpy_on_an_acquisition(data_dir):
    kspace = torch.from_numpy(np.load(data_dir / "mri" / "brain_8coil_kspace.npy"))
    rows, columns = (slice(n // 2 - 40, n // 2 + 40) for n in kspace.shape[-2:])  # coarser pixels: sigpy is slow
    compare_with_sigpy(kspace[:, rows, columns].contiguous())


def test_undersampling_outside_the_centre_does_not_matter():
    kspace = simulated()[0]
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[12:36, 8:32] = True
    mask[::3, ::2] = True
    torch.testing.assert_close(espirit(kspace * mask)[0], espirit(kspace)[0], rtol=0, atol=1e-6)


def test_errors():
    kspace = simulated()[0]
    with pytest.raises(ShapeError, match=r"\(48, 40\)"):
        espirit(kspace[0])
    with pytest.raises(DTypeError, match="float32"):
        espirit(kspace.real)
    with pytest.raises(InputError, match="NaN"):
        espirit(kspace * float("nan"))
    for wrong in ({"kernel": 1}, {"threshold": 0.0}, {"crop": 1.0}, {"n_sets": 7}, {"phase_reference": 6}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            espirit(kspace, **wrong)
    holed = kspace.clone()
    holed[:, 24, 20] = 0
    with pytest.raises(InputError, match="0 x 0.*give coil maps"):
        espirit(holed)
    narrow = torch.zeros_like(kspace)
    narrow[:, :, 17:23] = kspace[:, :, 17:23]
    with pytest.raises(InputError, match="48 x 6.*kernel=6"):
        espirit(narrow)
    with pytest.raises(InputError, match="12 x 12 was asked for"):
        espirit(narrow, calibration=(12, 12))
    assert espirit(narrow, kernel=4)[0].shape == (1, 1, COILS, *SIZE)
    with pytest.raises(ShapeError, match="calibration_region"):
        calibration_region(torch.ones(3))
