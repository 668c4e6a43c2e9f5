"""Siemens raw data, from files built here by the published layout of VB and VD (no scanner's file is public)."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from invdiff.datasets import reading
from invdiff.datasets.raw import twix
from invdiff.errors import FileError, FormatError, InputError, MissingExtraError

pytest.importorskip("mapvbvd", reason="Siemens raw data need pymapvbvd (extra twix)")

BASE, LINES, COILS = 8, 12, 3
REFLECTED, NOISE, REFERENCE, PHASE_CORRECTION = 1 << 24, 1 << 25, 1 << 22, 1 << 21


def readout(values: np.ndarray, vd: bool, flags: int = 0, **loops: int) -> bytes:
    """One readout (coils, samples) with its heads."""
    coils, samples = values.shape
    counters = [loops.get(k, 0) for k in ("lin", "ave", "sli", "par", "eco", "phs", "rep", "set", "seg")] + [0] * 5
    pre, post = loops.get("pre", 0), loops.get("post", 0)
    centre = loops.get("centre", samples // 2)
    common = struct.pack("<IIHH", flags & 0xFFFFFFFF, 0, samples, coils) + struct.pack("<14H", *counters)
    common += struct.pack("<2H2HfI2H", pre, post, centre, 0, 0.0, 0, LINES // 2, loops.get("centre_par", 0))
    heads = struct.pack("<4I", 1, 7, loops.get("lin", 0), 0) + struct.pack("<I", 0)
    if vd:
        length = 192 + (32 + 8 * samples) * coils
        head = struct.pack("<I", length) + heads[4:] + bytes(20) + common + struct.pack("<7f", *[0.0] * 7)
        head += bytes(192 - len(head))
        return head + b"".join(bytes(32) + row.astype(np.complex64).tobytes() for row in values)
    out = b""
    for row in values:
        head = struct.pack("<I", 128 + 8 * samples) + heads[4:] + common + bytes(16) + struct.pack("<7f", *[0.0] * 7)
        out += head + bytes(128 - len(head)) + row.astype(np.complex64).tobytes()
    return out


def protocol(**extra: Any) -> bytes:
    values = {
        "sKSpace.lBaseResolution": BASE, "sKSpace.lPhaseEncodingLines": LINES, "sKSpace.ucDimension": 2,
        "sKSpace.ucTrajectory": 1, "sSliceArray.asSlice[0].dReadoutFOV": 16.0, "sSliceArray.asSlice[0].dPhaseFOV": 18.0,
        "sSliceArray.asSlice[0].dThickness": 5.0, "sRXSPEC.alDwellTime[0]": 5000, "sPat.ucRefScanMode": 4, **extra,
    }  # fmt: skip
    text = "### ASCCONV BEGIN ###\n" + "".join(f"{k} = {v}\n" for k, v in values.items()) + "\n### ASCCONV END ###\n"
    buffer = b"MeasYaps\0" + struct.pack("<I", len(text)) + text.encode()
    content = struct.pack("<I", 1) + buffer
    return struct.pack("<I", 10240) + content + bytes(10236 - len(content))  # shorter ones are of no VB file


def save(path: Path, readouts: list[bytes], vd: bool, noise: Any = None, **extra: Any) -> Path:
    last = readout(np.zeros((1, 16)), vd, 1)  # the end of a measurement
    scans = [*([noise] if noise else []), readouts]
    if not vd:
        path.write_bytes(protocol(**extra) + b"".join([*(noise or []), *readouts]) + last + bytes(512))
        return path
    blocks = [protocol(**extra) + b"".join(scan) + last for scan in scans]
    blocks = [b + bytes(-len(b) % 512) for b in blocks]
    starts = 10240 + np.concatenate([[0], np.cumsum([len(b) for b in blocks])])
    table = struct.pack("<II", 0, len(blocks))
    for i, block in enumerate(blocks):
        table += struct.pack("<IIQQ", 1, i, int(starts[i]), len(block)) + bytes(128)
    path.write_bytes(table + bytes(10240 - len(table)) + b"".join(blocks))
    return path


def kspace(slices: int = 1) -> np.ndarray:
    rng = np.random.default_rng(0)
    shape = (slices, COILS, 2 * BASE, LINES)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


@pytest.mark.parametrize("vd", [False, True])
def test_slices(tmp_path: Path, vd: bool) -> None:
    full = kspace(3)
    readouts = [readout(full[s, :, :, y], vd, lin=y, sli=s) for y in range(LINES) if y % 3 != 1 for s in (0, 2, 1)]
    path = save(tmp_path / "a.dat", readouts, vd)
    assert twix.recognise(path)
    raw = twix.read(path)
    expected = full.copy()
    expected[..., 1::3] = 0
    np.testing.assert_array_equal(raw.kspace.numpy(), expected)
    assert raw.recon_size == (BASE, LINES) and raw.spacing == (2.0, 1.5)
    assert raw.mask.tolist() == [y % 3 != 1 for y in range(LINES)]
    np.testing.assert_array_equal(twix.read(path, slice=2).kspace.numpy(), expected[2])
    import torch

    maps = torch.ones(COILS, BASE, LINES)
    assert reading.read(path, slice=0, sigma=0.1, coil_maps=maps).y.shape == (COILS, BASE, LINES)


@pytest.mark.parametrize("vd", [False, True])
def test_reflected_asymmetric_and_other_readouts(tmp_path: Path, vd: bool) -> None:
    full = kspace()[0]
    short = 2 * BASE - 4  # the first four samples were not acquired
    readouts = []
    for y in range(LINES):
        line = full[:, 4:, y]
        if y % 2:
            readouts.append(readout(line[:, ::-1], vd, REFLECTED, lin=y, centre=short - 1 - (BASE - 4)))
        else:
            readouts.append(readout(line, vd, lin=y, centre=BASE - 4))
    junk = np.full((COILS, short), 9)
    readouts.append(readout(junk, vd, PHASE_CORRECTION, lin=3))
    raw = twix.read(save(tmp_path / "a.dat", readouts, vd))
    expected = full.copy()
    expected[:, :4] = 0
    np.testing.assert_array_equal(raw.kspace.numpy(), expected)


@pytest.mark.parametrize("mode", [2, 4])
def test_reference_lines(tmp_path: Path, mode: int) -> None:
    full = kspace()[0]
    readouts = [readout(full[:, :, y], True, lin=y) for y in range(0, LINES, 2)]
    readouts += [readout(full[:, :, y], True, REFERENCE, lin=y) for y in (5, 7)]
    raw = twix.read(save(tmp_path / "a.dat", readouts, True, **{"sPat.ucRefScanMode": mode}))
    expected = sorted([*range(0, LINES, 2), *((5, 7) if mode == 2 else ())])
    assert raw.mask.nonzero().ravel().tolist() == expected
    np.testing.assert_array_equal(raw.kspace.numpy()[..., expected], full[..., expected])


@pytest.mark.parametrize("vd", [False, True])
def test_noise_scan_whitens(tmp_path: Path, vd: bool) -> None:
    rng = np.random.default_rng(1)
    mix = np.array([[1, 0, 0], [0.5, 2, 0], [0.3j, -0.2, 0.7]])

    def noise(samples: int) -> np.ndarray:
        return mix @ (rng.normal(size=(COILS, samples)) + 1j * rng.normal(size=(COILS, samples)))

    scan = [readout(noise(256), vd, NOISE) for _ in range(60)]
    readouts = [readout(0.79**0.5 * noise(16), vd, lin=y, sli=s) for s in range(30) for y in range(LINES)]
    path = save(tmp_path / "a.dat", readouts, vd, scan)
    raw = twix.read(path)
    white = raw.kspace.numpy().swapaxes(0, 1).reshape(COILS, -1)
    np.testing.assert_allclose(white @ white.conj().T / white.shape[1], 2 * np.eye(COILS), atol=0.12)  # 5760 samples
    assert raw.sigma == 1.0 and twix.read(path, whiten=False).sigma is None


def test_volume(tmp_path: Path) -> None:
    nz, full = 4, np.random.default_rng(2).normal(size=(COILS, 2 * BASE, LINES, 4)).astype(np.complex64)
    readouts = [
        readout(full[:, :, y, z], True, lin=y, par=z, centre_par=nz // 2) for z in range(nz) for y in range(LINES)
    ]
    raw = twix.read(save(tmp_path / "a.dat", readouts, True, **{"sKSpace.ucDimension": 4, "sKSpace.lPartitions": nz}))
    assert raw.kspace.shape == (BASE, COILS, LINES, nz)
    whole = np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(full, 1), axis=1, norm="ortho"), 1)
    np.testing.assert_allclose(raw.kspace.numpy(), whole.swapaxes(0, 1)[BASE // 2 : BASE // 2 + BASE], atol=1e-5)


def test_bad_files(tmp_path: Path) -> None:
    full = kspace()[0]
    readouts = [readout(full[:, :, y], True, lin=y) for y in range(LINES)]
    path = save(tmp_path / "a.dat", readouts, True)
    whole, at = path.read_bytes(), 10240 + len(protocol())
    stuck = whole[:at] + struct.pack("<I", 0x1000000) + whole[at + 4 : at + 40] + b"\x20" + whole[at + 41 :]
    for content, said in [
        (whole[: at + 1000], "ends in the middle|cut short"),
        (stuck, "a readout of 16777216 bytes"),
        (whole[: at + 48] + b"\0\0" + whole[at + 50 :], "a readout of 0 samples"),
        (whole[:at] + whole[at + len(readouts[0]) * LINES :], "no readout of an image|cannot be read"),
        (whole[:10000], "expected Siemens raw data"),
        (b"hello" * 100, "expected Siemens raw data"),
        (b"", "empty"),
    ]:
        (tmp_path / "b.dat").write_bytes(content)
        with pytest.raises(FormatError, match=said):
            twix.read(tmp_path / "b.dat")
    with pytest.raises(FormatError, match="not cartesian"):
        twix.read(save(tmp_path / "c.dat", readouts, True, **{"sKSpace.ucTrajectory": 2}))
    with pytest.raises(FileError, match="does not exist"):
        twix.read(tmp_path / "none.dat")
    several = [readout(full[:, :, y], True, lin=y, rep=r) for r in (0, 1) for y in range(LINES)]
    with pytest.raises(InputError, match=r"several images, repetition \[0, 1\]"):
        twix.read(save(tmp_path / "d.dat", several, True))


def test_missing_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.dat", [readout(kspace()[0, :, :, 0], True)], True)
    monkeypatch.setitem(__import__("sys").modules, "mapvbvd", None)
    with pytest.raises(MissingExtraError, match=r"needs pymapvbvd.*invdiff\[twix\]"):
        twix.read(path)
