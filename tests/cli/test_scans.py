"""From images to scores: `invdiff simulate`, and `invdiff reconstruct` for CT and MRI, slices, stacks and volumes."""

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file

import invdiff
from invdiff.cli import scans
from invdiff.datasets.reading import read_volume
from invdiff.datasets.volume import Volume
from invdiff.networks.unet import UNet
from invdiff.posterior import Posterior
from invdiff.reconstruction import classical
from invdiff.simulation import CTScan, MRIScan

nifti = pytest.importorskip("invdiff.datasets.nifti")
pytest.importorskip("nibabel")

SHAPE = (3, 24, 20)


@pytest.fixture(scope="session")
def white(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prior of white real images, exact because the fresh network returns zero."""
    shape = {"channels": [8], "blocks": 1, "embedding": 8, "fold": 2}
    card = {
        "name": "white", "domain": "real", "architecture": {"type": "UNet", **shape}, "sigma_data": 0.3,
        "sigma_min": 0.003, "sigma_max": 20.0, "units": {"kind": "relative", "quantile": 0.99, "value": 0.8},
    }  # fmt: skip
    path = tmp_path_factory.mktemp("prior") / "white.safetensors"
    save_file(UNet(1, 1, **shape).state_dict(), path, metadata={"card": json.dumps(card)})  # type: ignore[arg-type]
    return path


@pytest.fixture(scope="session")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cylinder of tissue with a bone in it, air at 0 and water at 1000, off the origin and 2 x 3 x 4 mm."""
    z, y, x = np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij")
    values = np.where((y - 11) ** 2 + (x - 9) ** 2 < 60, 1000.0 + 50 * z, 0.0) + 800 * ((y - 8) ** 2 + (x - 9) ** 2 < 5)
    affine = np.array([[0, 0, 2.0, -7], [0, 3.0, 0, 5], [4.0, 0, 0, 30], [0, 0, 0, 1]])
    path = tmp_path_factory.mktemp("head") / "head.nii.gz"
    nifti.write(path, Volume(values.astype(np.float32), affine))
    return path


@pytest.fixture(autouse=True)
def few_iterations(monkeypatch) -> None:
    # How good the baselines are is measured elsewhere.
    for table in (classical.CT, classical.MRI):
        for name in {"cg", "tv", "wavelet"} & set(table):
            method = table[name]
            quick = replace(method, run=partial(method.run, iterations=3), strengths=(1.0, 10.0))  # type: ignore[call-arg]
            monkeypatch.setitem(table, name, quick)
    monkeypatch.setitem(classical.CT, "cgls", replace(classical.CT["cgls"], strengths=(4, 10)))


FAST = ("--method", "dds", "--nfe", 4, "--draws", 3)


def rows(path: Path) -> dict[tuple[str, Any], dict[str, Any]]:
    return {(row["method"], row["slice"]): row for row in json.loads(path.read_text())["rows"]}


def test_stack_of_ct_slices_comes_back_in_its_place_and_unit(tmp_path: Path, call, head: Path, white: Path) -> None:
    result = call(
        "reconstruct", head, "--simulate", "ct", "--views", 40, "-o", tmp_path / "out.nii.gz", "--prior", white,
        "--json", tmp_path / "r.json", "--png", tmp_path / "out.png", "--slice", "1:3", *FAST,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found = rows(tmp_path / "r.json")
    assert {method for method, _ in found} == {"dds", "fbp", "cgls", "tv"}
    assert {k for m, k in found if m == "dds"} == {1, 2, "mean"}
    assert all({"method", "slice", "psnr", "ssim", "coverage90"} <= set(row) for row in found.values())
    psnr = found["dds", "mean"]["psnr"]
    assert psnr == pytest.approx((found["dds", 1]["psnr"] + found["dds", 2]["psnr"]) / 2) and psnr > 15
    assert found["fbp", "mean"]["coverage90"] is None and 0 <= found["dds", "mean"]["coverage90"] <= 1
    truth, mean = read_volume(head), read_volume(tmp_path / "out_mean.nii.gz")
    np.testing.assert_allclose(mean.affine, truth.take([1, 2]).affine, atol=1e-4)
    # In the file's own values again: tissue of about 1000, as large as CGLS makes it, not 0.02/mm.
    assert abs(float(np.median(mean.values[0][truth.values[1] > 0])) / 1050 - 1) < 0.2
    kept = json.loads((tmp_path / "out.nii.gz.provenance.json").read_text())
    assert len(kept["input_sha256"]) == 64 and len(kept["prior_sha256"]) == 64 and kept["options"]["draws"] == 3
    assert kept["scan"]["views"] == 40 and kept["scan"]["counts"] == 1e5 and kept["seed"] == 0
    assert kept["source"].startswith("invdiff ") and kept["numpy_version"] and "geometry" not in kept


@pytest.mark.parametrize(
    "more", [("--slice", 1), ("--volume",), ("--beam", "fan", "--slice", "0:2"), ("--beam", "cone")]
)
def test_ct_of_a_slice_a_fan_and_volumes(tmp_path: Path, call, head: Path, more: tuple[Any, ...]) -> None:
    whole = more[0] in ("--volume",) or "cone" in more
    method = "fdk" if whole else "fbp"
    result = call(
        "reconstruct", head, "--simulate", "ct", "--views", 60, "--counts", 1e6, "-o", tmp_path / "out.nc", "--json",
        tmp_path / "r.json", "--method", method, *more,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found = rows(tmp_path / "r.json")
    assert {"cgls", method} | (set() if whole else {"tv"}) == {name for name, _ in found}
    assert found["cgls", "mean"]["psnr"] > 18
    posterior = Posterior.load(tmp_path / "out.nc")
    assert posterior.draws.dims == (
        ("draw", "channel", "z", "y", "x") if whole
        else ("draw", "channel", "y", "x") if "fan" not in more else ("draw", "problem", "channel", "y", "x")
    )  # fmt: skip


@pytest.mark.parametrize("more", [("--slice", 1), (), ("--volume", "--mask", "poisson", "--acceleration", 2)])
def test_mri_of_a_slice_a_stack_and_a_volume(
    tmp_path: Path, call, head: Path, prior: Path, more: tuple[Any, ...]
) -> None:
    method = ("--method", "cg") if "--volume" in more else FAST
    result = call(
        "reconstruct", head, "--simulate", "mri", "--coils", 4, "-o", tmp_path / "out.h5",
        "--json", tmp_path / "r.json", "--prior", prior, *method, *more,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found = rows(tmp_path / "r.json")
    quick = {method[1], "zero_filled", "cg"}
    assert {name for name, _ in found} == (quick if "--volume" in more else quick | {"tv", "wavelet"})
    assert found["cg", "mean"]["psnr"] > found["zero_filled", "mean"]["psnr"]  # chosen by the truth, so never worse
    assert len([k for m, k in found if m == "cg"]) == (2 if "--slice" in more else 4)


def test_measurement_file_gives_what_the_two_in_one_gives(tmp_path: Path, call, head: Path, white: Path) -> None:
    scan = ("--views", 20, "--slice", "0:2", "--seed", 3)
    file = tmp_path / "m.h5"
    done = call("simulate", head, "--modality", "ct", *scan, "-o", file, "--json", tmp_path / "s.json")
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "s.json").read_text())["problems"] == 2
    one = ("-o", tmp_path / "one.nc", "--prior", white, *FAST)
    assert call("reconstruct", file, "--seed", 3, *one).exit_code == 0
    two = ("-o", tmp_path / "two.nc", "--prior", white, *FAST)
    assert call("reconstruct", head, "--simulate", "ct", *scan, *two).exit_code == 0
    a, b = (Posterior.load(tmp_path / f"{name}.nc") for name in ("one", "two"))
    np.testing.assert_array_equal(a.draws, b.draws)
    assert a.draws.attrs.get("units", "") == b.draws.attrs.get("units", "") == ""


def test_hounsfield_units_come_out_as_they_went_in(tmp_path: Path, call, head: Path) -> None:
    values = read_volume(head)
    nifti.write(tmp_path / "hu.nii.gz", Volume(values.values - 1000, values.affine, "HU"))
    out = tmp_path / "out.nc"
    command = ("--simulate", "ct", "--views", 60, "--noise", 1e-3, "--method", "cgls", "--slice", 1)
    assert call("reconstruct", tmp_path / "hu.nii.gz", *command, "-o", out).exit_code == 0
    posterior = Posterior.load(out)
    assert posterior.draws.attrs["units"] == "HU"
    assert abs(float(posterior.draws[0, 0, 0, 0]) + 1000) < 60  # air


def test_what_is_no_attenuation_is_said(head: Path) -> None:
    from invdiff.simulation import simulate

    values = read_volume(head).values[:1] - 1000
    padded = values.copy()
    padded[0, 0, 0] = -3024
    affine = np.diag([4.0, 3, 2, 1])
    clean = simulate(Volume(values, affine, "HU"), CTScan(views=5))
    with pytest.warns(UserWarning, match="1 voxels below -1100 HU are padding"):
        found = simulate(Volume(padded, affine, "HU"), CTScan(views=5))
    np.testing.assert_array_equal(found.measurement.y, clean.measurement.y)
    with pytest.warns(UserWarning, match="an MR image"):
        simulate(Volume(values + 1000, affine, meta={"modality": "MR"}), CTScan(views=5))


def test_slice_of_a_stack_is_the_slice_alone(head: Path) -> None:
    from invdiff.simulation import simulate

    volume = read_volume(head)
    for scan in (CTScan(views=7), MRIScan(coils=2, acceleration=2)):
        stack, alone = simulate(volume, scan, seed=5), simulate(volume, scan, 2, seed=5)
        np.testing.assert_array_equal(stack.measurement.y[2], alone.measurement.y)
        assert stack.truth is not None and alone.truth is not None
        np.testing.assert_array_equal(stack.truth[2:], alone.truth)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--simulate", "ct", "--views", 0), "views"),
        (("--simulate", "ct", "--beam", "helix"), "beam 'helix' is not known"),
        (("--simulate", "ct", "--slice", 7), "expected evenly spaced numbers from 0 to 2"),
        (("--simulate", "mri", "--acceleration", 0.5), "acceleration"),
        (("--simulate", "mri", "--mask", "spiral"), "mask 'spiral' is not known"),
        (("--simulate", "ct", "--method", "zero_filled"), "zero_filled is no method for ParallelCT"),
        ((), "simulate a measurement"),
        (("--simulate", "ct", "-o", "out.tif"), "must end in .nc, .h5"),
        (("--simulate", "ct", "-o", "full"), "not empty"),
    ],
)
def test_mistakes_end_with_one_line(
    tmp_path: Path, call, head: Path, monkeypatch, arguments: tuple[Any, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    result = call("reconstruct", head, "-o", "out.nc", *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full"]


def test_mixed_units_are_refused(tmp_path: Path, head: Path) -> None:
    from invdiff.simulation import simulate

    volume = read_volume(head)
    kelvin = Volume(volume.values, volume.affine, "K")
    with pytest.raises(invdiff.errors.InputError, match="in 'K', which is no attenuation"):
        simulate(kelvin, CTScan())
    with pytest.raises(invdiff.errors.InputError, match="goes down to -1000"):
        simulate(Volume(volume.values - 1000, volume.affine), CTScan())
    with pytest.raises(invdiff.errors.InputError, match="HU"):
        simulate(Volume(volume.values, volume.affine, "HU"), MRIScan())


@pytest.mark.skipif(sys.platform == "win32", reason="limits on the size of files are POSIX")
def test_disk_full_leaves_nothing_half_written(tmp_path: Path, call, head: Path) -> None:
    # A limit on the size of files stands for the disk: writing fails in the same places.
    file = tmp_path / "m.h5"
    assert call("simulate", head, "--modality", "ct", "--views", 9, "--slice", 1, "-o", file).exit_code == 0
    code = """
import resource, signal, sys
from typer.testing import CliRunner
from invdiff.cli import app
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
sampled = ["--method", "mmps", "--nfe", "1", "--draws", "2", "--alone", "-o", "out.nc"]
for how in (["--method", "fbp", "-o", "out.nc"], ["--method", "fbp", "-o", "out.nii.gz"], sampled):
    done = CliRunner().invoke(app, ["reconstruct", "m.h5", *how])
    print(done.exit_code, done.stderr.strip().splitlines()[-1])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 3 and all(line.startswith("2 error: cannot write") for line in lines), done
    assert "File too large" in lines[2]
    assert list(tmp_path.iterdir()) == [file]


def test_help_names_the_defaults_that_hold() -> None:
    # None at the command line means "not given", so help has to say them again.
    for name, default in {**vars(CTScan()), **vars(MRIScan())}.items():
        option = getattr(scans, name.capitalize(), None)
        if option is not None and isinstance(default, (int, float, str)) and not isinstance(default, bool):
            said = option.__metadata__[0].show_default.split(";")[0]
            assert type(default)(float(said) if isinstance(default, (int, float)) else said) == default, name
