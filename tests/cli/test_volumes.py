"""`invdiff reconstruct --simulate … --method dds3d`: a volume from a file, scored in three planes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from invdiff.cli import scans
from invdiff.datasets import nifti
from invdiff.datasets.phantoms.volumes import head_volume
from invdiff.datasets.volume import Volume
from invdiff.metrics.planes import PLANES
from invdiff.networks.unet import UNet
from invdiff.samplers.volume.named import NAMES


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A head of 8 x 16 x 16 voxels, and a prior of real images: a fresh network, that is white Gaussian pixels."""
    folder = tmp_path_factory.mktemp("volume")
    values = 1000 * head_volume(torch.Generator().manual_seed(0), (8, 16, 16)).numpy()
    nifti.write_all({folder / "head.nii": Volume(values, np.diag([2.0, 2.0, 2.0, 1.0])[:, [2, 1, 0, 3]])}, "")
    shape = {"channels": [8], "blocks": 1, "embedding": 8, "fold": 2}
    card = {
        "name": "white", "domain": "real", "architecture": {"type": "UNet", **shape}, "sigma_data": 0.3,
        "sigma_min": 0.003, "sigma_max": 20.0, "units": {"kind": "relative", "quantile": 0.99, "value": 0.8},
    }  # fmt: skip
    tensors = UNet(1, 1, **shape).state_dict()  # type: ignore[arg-type]
    save_file(tensors, folder / "white.safetensors", metadata={"card": json.dumps(card)})
    return folder / "head.nii", folder / "white.safetensors"


def run(call, files: tuple[Path, Path], folder: Path, method: str, *more: object) -> dict:
    file, prior = files
    options = () if method in ("fdk", "tv") else ("--prior", prior, "--draws", 2, "--nfe", 3)
    result = call(
        "reconstruct", file, "--simulate", "ct", "--views", 12, "--method", method, "-o", folder / "out.nii.gz",
        "--json", folder / "h.json", *options, *more,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found: dict = json.loads((folder / "h.json").read_text())
    return found


@pytest.mark.parametrize("method", ["mbir", "dds3d", "tpdm", "slicewise", "fdk", "tv"])
def test_rows_of_three_planes(method: str, call, files, tmp_path: Path) -> None:
    found = run(call, files, tmp_path, method, "--memory", "4GiB")
    planes = {row["plane"]: row for row in found["rows"] if row["method"] == method and row["plane"]}
    assert set(planes) == set(PLANES)
    assert all(10 < row["psnr"] < 60 and 0 < row["ssim"] <= 1 for row in planes.values())
    assert {"coverage90", "nfe", "seconds", "peak_memory_mib"} <= set(found)
    classical = method in ("fdk", "tv")
    assert (found["coverage90"] is None) == classical and found["nfe"] == (0 if classical else 3)
    assert (tmp_path / "out_mean.nii.gz").is_file()


def test_workers_give_the_same_numbers(call, files, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    alone = run(call, files, tmp_path, "dds3d")
    (tmp_path / "out_mean.nii.gz").unlink()
    shared = run(call, files, tmp_path, "dds3d", "--workers", 1)
    assert shared["rows"] == alone["rows"] and shared["coverage90"] == alone["coverage90"]


def test_what_an_earlier_run_left_is_not_passed_off(call, files, tmp_path: Path) -> None:
    (tmp_path / "out_mask.nii.gz").write_bytes(b"not ours")
    for draws, names in ((2, {"mean", "std", "mask"}), (1, {"mean", "mask"})):
        result = call(
            "reconstruct", files[0], "--simulate", "ct", "--views", 12, "--method", "dds3d", "--prior", files[1],
            "--draws", draws, "--nfe", 2, "--alone", "-o", tmp_path / "out.nii.gz",
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        assert {p.name for p in tmp_path.glob("out_*.nii.gz")} == {f"out_{n}.nii.gz" for n in names}


def test_two_slices_are_no_volume_for_tpdm(call, files, tmp_path: Path) -> None:
    result = call(
        "reconstruct", files[0], "--simulate", "ct", "--views", 12, "--slice", "2:4", "--method", "tpdm", "--prior",
        files[1], "--draws", 1, "--nfe", 2, "--alone", "-o", tmp_path / "out.nii.gz",
    )  # fmt: skip
    assert result.exit_code == 2 and "TPDM got 2 slices" in result.output, result.output


def test_too_little_memory_is_refused_with_the_number_that_would_do(call, files, tmp_path: Path) -> None:
    file, prior = files
    result = call(
        "reconstruct", file, "--simulate", "ct", "--method", "dds3d", "--prior", prior, "--memory", "100MiB",
        "-o", tmp_path / "out.nii.gz",
    )  # fmt: skip
    assert result.exit_code != 0 and "needs 0.68" in str(result.exception) + result.output
    assert list(tmp_path.iterdir()) == []


def test_volume_methods_are_known_to_the_command_line() -> None:
    assert set(scans.VOLUME_METHODS) == {*NAMES, "fdk"}
