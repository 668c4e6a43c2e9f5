"""ISMRMRD files written by the standard's own package: every readout where it belongs, noise white, images in place."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from invdiff.datasets import reading
from invdiff.datasets.kspace import to_measurement
from invdiff.datasets.raw import ismrmrd
from invdiff.datasets.volume import from_attributes
from invdiff.errors import FileError, FormatError, InputError

mrd = pytest.importorskip("ismrmrd", reason="writing test files needs ismrmrd (extra mri)")

NX, NY, COILS = 16, 12, 3
READ, PHASE, SLICE = np.array([0.6, 0.8, 0]), np.array([-0.8, 0.6, 0]), np.array([0, 0, 1.0])


def header(ny: int = NY, nz: int = 1, extra: str = "", limits: str = "", trajectory: str = "cartesian") -> bytes:
    def space(name: str, x: int, y: int, z: int, fov: tuple[float, float, float]) -> str:
        size = f"<matrixSize><x>{x}</x><y>{y}</y><z>{z}</z></matrixSize>"
        return f"<{name}>{size}<fieldOfView_mm><x>{fov[0]}</x><y>{fov[1]}</y><z>{fov[2]}</z></fieldOfView_mm></{name}>"

    whole = f"<minimum>0</minimum><maximum>{ny - 1}</maximum><center>{ny // 2}</center>"
    limits = limits or f"<kspace_encoding_step_1>{whole}</kspace_encoding_step_1>"
    return (
        '<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><acquisitionSystemInformation>'
        "<relativeReceiverNoiseBandwidth>0.8</relativeReceiverNoiseBandwidth></acquisitionSystemInformation><encoding>"
        + space("encodedSpace", NX, ny, nz, (32.0, 18.0, 5.0 * nz))  # twice the readout: 2 mm x 1.5 mm
        + space("reconSpace", NX // 2, ny, nz, (16.0, 18.0, 5.0 * nz))
        + f"<encodingLimits>{limits}</encodingLimits><trajectory>{trajectory}</trajectory>{extra}</encoding>"
        "</ismrmrdHeader>"
    ).encode()


def readout(values: np.ndarray, y: int, flags: tuple[int, ...] = (), z: int = 0, **fields: Any) -> Any:
    counters = {k: fields.pop(k) for k in ("slice", "repetition", "average", "contrast") if k in fields}
    position = np.array([1.0, 2, 3]) + 4.0 * counters.get("slice", 0) * SLICE
    values = np.asarray(values, np.complex64)
    made = mrd.Acquisition.from_array(
        values, center_sample=fields.pop("center_sample", values.shape[1] // 2), sample_time_us=5.0, **fields
    )
    made.position[:], made.read_dir[:], made.phase_dir[:], made.slice_dir[:] = position, READ, PHASE, SLICE
    made.idx.kspace_encode_step_1, made.idx.kspace_encode_step_2 = y, z
    for key, value in counters.items():
        setattr(made.idx, key, value)
    for bit in flags:
        made.set_flag(bit)
    return made


def save(path: Path, readouts: list[Any], text: bytes) -> Path:
    with mrd.Dataset(str(path), "dataset") as file:
        file.write_xml_header(text)
        for one in readouts:
            file.append_acquisition(one)
    return path


def kspace(slices: int = 2, seed: int = 0, noise: float = 0.0) -> np.ndarray:
    """Of a smooth object, (slices, coils, x, y)."""
    rng = np.random.default_rng(seed)
    shape = (slices, COILS, NX, NY)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


def test_slices_of_several_coils(tmp_path: Path) -> None:
    full = kspace(3)
    order = [(s, y) for y in np.random.default_rng(1).permutation(NY) for s in (0, 2, 1)]
    path = save(tmp_path / "a.h5", [readout(full[s, :, :, y], y, slice=s) for s, y in order if y % 3 != 1], header())
    raw = ismrmrd.read(path)
    expected = full.copy()
    expected[..., 1::3] = 0
    np.testing.assert_array_equal(raw.kspace.numpy(), expected)
    assert raw.mask.tolist() == [y % 3 != 1 for y in range(NY)]
    assert raw.recon_size == (NX // 2, NY) and raw.spacing == (2.0, 1.5) and raw.sigma is None
    one = ismrmrd.read(path, slice=2)
    assert torch.equal(one.kspace, raw.kspace[2]) and one.meta["slice"] == 2
    assert reading.read(path, sigma=0.1, coil_maps=torch.ones(COILS, NX // 2, NY)).y.shape == (3, COILS, NX // 2, NY)


def at_places(full: np.ndarray, places: list[float]) -> list[Any]:
    """Readouts of slices, the n-th of which stands `places[n]` mm along the normal."""
    readouts = []
    for s, place in enumerate(places):
        for y in range(NY):
            one = readout(full[s, :, :, y], y, slice=s)
            one.position[:] = np.array([1.0, 2, 3]) + place * SLICE
            readouts.append(one)
    return readouts


@pytest.mark.parametrize("places", [[8, 4, 0], [4, 4, 0]])  # against the normal; no place for each
def test_numbers_of_slices_are_kept_where_places_do_not_gainsay(tmp_path: Path, places: list[float]) -> None:
    full = kspace(3)
    raw = ismrmrd.read(save(tmp_path / "a.h5", at_places(full, places), header()))
    np.testing.assert_array_equal(raw.kspace.numpy(), full)
    assert raw.meta["slice"] == [0, 1, 2]


def test_slices_stand_where_they_say(tmp_path: Path) -> None:
    full = kspace(3)
    raw = ismrmrd.read(save(tmp_path / "a.h5", at_places(full, [4, 0, 8]), header()))  # counted as acquired
    np.testing.assert_array_equal(raw.kspace.numpy(), full[[1, 0, 2]])
    assert raw.meta["slice"] == [1, 0, 2] and raw.affine is not None
    np.testing.assert_allclose(raw.affine[:3, 0], 4 * SLICE, atol=1e-5)
    one = ismrmrd.read(tmp_path / "a.h5", slice=0)
    assert torch.equal(one.kspace, raw.kspace[0]) and one.meta["slice"] == 1


def test_place_of_the_image(tmp_path: Path) -> None:
    full = kspace(3)
    path = save(
        tmp_path / "a.h5", [readout(full[s, :, :, y], y, slice=s) for s in range(3) for y in range(NY)], header()
    )
    for keep, rows in ((True, NX), (False, NX // 2)):
        measurement = to_measurement(
            ismrmrd.read(path),
            0.1,
            coil_maps=torch.ones(COILS, rows, NY, dtype=torch.complex64),
            keep_oversampling=keep,
        )
        place = from_attributes(measurement.meta)
        assert place is not None and place.values.shape == (3, rows, NY)
        for k in range(3):  # the middle of the grid stands where the readouts say
            np.testing.assert_allclose(place.world((k, rows // 2, NY // 2)), [1, 2, 3 + 4 * k], atol=1e-5)
        np.testing.assert_allclose(place.world((0, 1, 0)) - place.world((0, 0, 0)), 2 * READ, atol=1e-5)
        np.testing.assert_allclose(place.world((0, 0, 1)) - place.world((0, 0, 0)), 1.5 * PHASE, atol=1e-5)


def test_partial_fourier_asymmetric_echo_and_reversed_readouts(tmp_path: Path) -> None:
    full = kspace(1)[0]
    limits = (
        "<kspace_encoding_step_1><minimum>0</minimum><maximum>7</maximum><center>2</center></kspace_encoding_step_1>"
    )
    readouts = []
    for y in range(8):  # the centre is the third line: it belongs at NY // 2
        line = full[:, 4:, y + NY // 2 - 2]  # the first four samples were not acquired
        if y % 2:
            readouts.append(readout(line[:, ::-1], y, (mrd.ACQ_IS_REVERSE,), center_sample=11 - 4))
        else:
            junk = np.full((COILS, 2), 99)
            readouts.append(readout(np.hstack([junk, line]), y, center_sample=6, discard_pre=2))
    raw = ismrmrd.read(save(tmp_path / "a.h5", readouts, header(limits=limits)))
    expected = np.zeros_like(full)
    expected[:, 4:, 4:12] = full[:, 4:, 4:12]
    np.testing.assert_array_equal(raw.kspace.numpy(), expected)
    assert raw.mask.shape == (NX, NY) and raw.mask[4:, 4:].all() and raw.mask.sum() == 12 * 8


def test_noise_scan_whitens(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    mix = np.array([[1, 0, 0], [0.5, 2, 0], [0.3j, -0.2, 0.7]])

    def noise(*shape: int) -> np.ndarray:
        return mix @ (rng.normal(size=(COILS, *shape)) + 1j * rng.normal(size=(COILS, *shape))).reshape(COILS, -1)

    readouts = [readout(noise(512), 0, (mrd.ACQ_IS_NOISE_MEASUREMENT,)) for _ in range(40)]
    readouts += [readout(np.sqrt(0.8) * noise(NX), y, slice=s) for s in range(40) for y in range(NY)]
    path = save(tmp_path / "a.h5", readouts, header())
    raw = ismrmrd.read(path)
    white = raw.kspace.numpy().swapaxes(0, 1).reshape(COILS, -1)
    covariance = white @ white.conj().T / white.shape[1]  # 2 sigma^2; 7680 samples: 1 % off, 3 % is three deviations
    np.testing.assert_allclose(covariance, 2 * np.eye(COILS), atol=0.1)
    assert raw.sigma == 1.0 and raw.meta["whitened"] and raw.meta["left_out"] == {"noise": 40}
    plain = ismrmrd.read(path, whiten=False)
    assert plain.sigma is None and abs(plain.kspace[:, 1].abs().square().mean() / (2 * 0.8 * 4.25) - 1) < 0.05


def test_averages(tmp_path: Path) -> None:
    first, second = kspace(1, 0)[0], kspace(1, 1)[0]
    readouts = [readout(a[:, :, y], y, average=i) for i, a in enumerate((first, second)) for y in range(NY)]
    noise = np.random.default_rng(0).normal(size=(COILS, 64)) + 0j
    path = save(tmp_path / "a.h5", readouts, header())
    raw = ismrmrd.read(path)
    np.testing.assert_allclose(raw.kspace.numpy(), (first + second) / 2, atol=1e-6)
    assert raw.meta["averages"] == 2
    np.testing.assert_array_equal(ismrmrd.read(path, select={"average": 1}).kspace.numpy(), second)
    scan = [readout(noise, 0, (mrd.ACQ_IS_NOISE_MEASUREMENT,))]
    assert ismrmrd.read(save(tmp_path / "b.h5", scan + readouts, header())).sigma == pytest.approx(0.5**0.5)
    with pytest.raises(FormatError, match=r"measured \[1, 2\] times"):
        ismrmrd.read(save(tmp_path / "c.h5", scan + readouts[:-3], header()))


def test_what_is_not_of_the_image(tmp_path: Path) -> None:
    full, junk = kspace(1)[0], np.full((COILS, NX), 7)
    readouts = [readout(full[:, :, y], y) for y in range(0, NY, 2)]
    readouts += [readout(junk, 5, (bit,)) for bit in (mrd.ACQ_IS_NAVIGATION_DATA, mrd.ACQ_IS_PHASECORR_DATA)]
    readouts += [readout(full[:, :, y], y, (mrd.ACQ_IS_PARALLEL_CALIBRATION,)) for y in (5, 7)]
    embedded = "<parallelImaging><calibrationMode>embedded</calibrationMode></parallelImaging>"
    raw = ismrmrd.read(save(tmp_path / "a.h5", readouts, header()))
    assert raw.meta["left_out"] == {"navigator": 1, "phase correction": 1, "calibration": 2}
    assert raw.mask.nonzero().ravel().tolist() == [0, 2, 4, 6, 8, 10]
    raw = ismrmrd.read(save(tmp_path / "b.h5", readouts, header(extra=embedded)))
    assert raw.mask.nonzero().ravel().tolist() == [0, 2, 4, 5, 6, 7, 8, 10]
    np.testing.assert_array_equal(raw.kspace[..., 5].numpy(), full[..., 5])


def test_volume_is_separated_along_its_readout(tmp_path: Path) -> None:
    nz, rng = 4, np.random.default_rng(3)
    image = rng.normal(size=(COILS, NX, NY, nz)) + 1j * rng.normal(size=(COILS, NX, NY, nz))
    axes = (1, 2, 3)
    full = np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(image, axes), axes=axes, norm="ortho"), axes)
    limits = "".join(
        f"<kspace_encoding_step_{k}><minimum>0</minimum><maximum>{n - 1}</maximum><center>{n // 2}</center>"
        f"</kspace_encoding_step_{k}>"
        for k, n in ((1, NY), (2, nz))
    )
    readouts = [readout(full[:, :, y, z], y, z=z) for z in range(nz) for y in range(NY) if (y + z) % 3]
    path = save(tmp_path / "a.h5", readouts, header(nz=nz, limits=limits))
    raw = ismrmrd.read(path)
    assert raw.kspace.shape == (NX // 2, COILS, NY, nz)  # the oversampled readout is cut to its middle
    hybrid = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image, (2, 3)), axes=(2, 3), norm="ortho"), (2, 3))
    mask = (np.arange(NY)[:, None] + np.arange(nz)) % 3 != 0
    np.testing.assert_allclose(
        raw.kspace.numpy(), (hybrid * mask).swapaxes(0, 1)[NX // 4 : NX // 4 + NX // 2], atol=1e-5
    )
    assert raw.mask.tolist() == mask.tolist() and raw.recon_size == (NY, nz)
    assert raw.affine is not None
    np.testing.assert_allclose(raw.affine @ [NX // 4, NY // 2, nz // 2, 1], [1, 2, 3, 1], atol=1e-5)


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        (header(trajectory="radial"), {}, "the trajectory is 'radial'; expected cartesian"),
        (header(ny=4), {}, "a grid of 4 cannot hold that"),
        (b"<broken", {}, "not XML"),
        (header().replace(b"<x>16</x>", b"<x>8</x>"), {}, "does not fit a grid of 8"),
        (header().replace(b"<x>16</x>", b"<x>99999999</x>"), {}, "far larger|sizes x, y, z"),
    ],
)
def test_bad_content(tmp_path: Path, text: bytes, kind: dict[str, Any], said: str) -> None:
    full = kspace(1)[0]
    path = save(tmp_path / "a.h5", [readout(full[:, :, y], y) for y in range(NY)], text)
    with pytest.raises(FormatError, match=said):
        ismrmrd.read(path, **kind)


def test_several_images_and_bad_files(tmp_path: Path) -> None:
    full = kspace(2)
    readouts = [readout(full[r, :, :, y], y, repetition=r) for r in range(2) for y in range(NY)]
    path = save(tmp_path / "a.h5", readouts, header())
    with pytest.raises(InputError, match=r"several images, repetition \[0, 1\]; choose one with select="):
        ismrmrd.read(path)
    np.testing.assert_array_equal(ismrmrd.read(path, select={"repetition": 1}).kspace.numpy(), full[1])
    with pytest.raises(InputError, match="no readout of an image"):
        ismrmrd.read(path, select={"repetition": 5})
    with pytest.raises(InputError, match="select names"):
        ismrmrd.read(path, select={"colour": 5})
    whole = path.read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2]):
        (tmp_path / "b.h5").write_bytes(content)
        assert not ismrmrd.recognise(tmp_path / "b.h5")
        with pytest.raises(FileError):
            ismrmrd.read(tmp_path / "b.h5")
    with h5py.File(path, "a") as file:
        lost = file["dataset/data"][0]
        lost["head"]["number_of_samples"] = 5
        file["dataset/data"][0] = lost
    with pytest.raises(FormatError, match=r"readout 0 holds 96 numbers; expected 2 x 3 coils x 5 samples"):
        ismrmrd.read(path)
