"""What cannot be written is said in one sentence, and nothing stays behind: full disks, folders that take no file.

A limit on the size of files stands for the full disk: the library that writes meets an error in the middle of a file.
"""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from invdiff.datasets import itk, nifti
from invdiff.datasets.dicom import parametric_map, writer
from invdiff.datasets.raw import bart, fastmri
from invdiff.datasets.volume import Volume
from invdiff.datasets.weather.ensemble import write_ensemble
from invdiff.errors import FileError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.matrix import Identity
from invdiff.posterior import Posterior

VOLUME = Volume(np.random.default_rng(0).normal(size=(4, 64, 64)), np.diag([1.0, 1, 1, 1])[[2, 1, 0, 3]], "HU")


def draws() -> torch.Tensor:
    return torch.from_numpy(VOLUME.values)[None, None].repeat(2, 1, 1, 1, 1)


def fields(path: Path) -> object:
    import xarray as xr

    return write_ensemble(xr.Dataset({"t": (("y", "x"), VOLUME.values[0])}), path)


WRITERS: dict[str, Callable[[Path], object]] = {
    "a.nii": lambda path: nifti.write(path, VOLUME),
    "a.nii.gz": lambda path: nifti.write(path, VOLUME),
    "a.mha": lambda path: itk.write(path, VOLUME),
    "a.nrrd": lambda path: itk.write(path, VOLUME),
    "dicom": lambda path: writer.write(path, {"mean": VOLUME}),
    "maps": lambda path: parametric_map.write(path, {"std": VOLUME}),
    "k.h5": lambda path: fastmri.write(path, draws()[:, 0] * (1 + 1j)),
    "s.h5": lambda path: fastmri.write_submission(path, VOLUME.values),
    "k.cfl": lambda path: bart.write(path, VOLUME.values * (1 + 1j), ("slice", "x", "y")),
    "fields.nc": fields,
    "m.nc": lambda path: Measurement(draws()[0], Identity((1, 4, 64, 64)), Gaussian(0.1)).save(path),
    "p.nc": lambda path: Posterior.from_draws(draws()).save(path),
    "image.nii.gz": lambda path: Posterior.from_draws(draws(), attrs=VOLUME.attributes()).save(path),
}
NEEDS = {"a.nii": "nibabel", "a.nii.gz": "nibabel", "a.mha": "SimpleITK", "a.nrrd": "SimpleITK", "maps": "highdicom",
         "image.nii.gz": "nibabel"}  # fmt: skip


LIMITS = (0, 4000, 9000)  # bytes: before, in and after the headers


def full(folder: str) -> None:
    """Run every writer in this process under each limit, and print how each ended."""
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    found = {}
    for limit in LIMITS:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        for name, write in WRITERS.items():
            if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
                continue
            try:
                write(Path(folder) / name)
                found[f"{name} {limit}"] = "written"
            except FileError as error:
                found[f"{name} {limit}"] = f"FileError: {error}"
            except BaseException as error:
                found[f"{name} {limit}"] = f"{type(error).__name__}: {error}"
    print(json.dumps(found))


@pytest.mark.skipif(sys.platform != "linux", reason="limits of file sizes are set as Linux has them")
def test_full_disk(tmp_path: Path) -> None:
    code = f"import runpy; runpy.run_path({__file__!r})['full']({str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr  # no library died of it
    ends = json.loads(done.stdout.splitlines()[-1])
    assert {name: end for name, end in ends.items() if not end.startswith("FileError: cannot write")} == {}
    assert len(ends) >= len(LIMITS) * (len(WRITERS) - len(NEEDS))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", WRITERS)
def test_folders_that_take_no_file(tmp_path: Path, name: str) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    closed = [tmp_path / "none" / name, tmp_path / "file" / name]
    if sys.platform == "linux":
        closed.append(Path("/proc") / name)  # where nobody may write, whoever runs this
    for path in closed:
        with pytest.raises(FileError, match="cannot write"):
            WRITERS[name](path)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
