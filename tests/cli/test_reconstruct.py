import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import invdiff
from invdiff.posterior import Posterior
from invdiff.reconstruction import Settings, classical, draw, reconstruct
from invdiff.validation.holdout import split

FAST = ("--method", "dds", "--nfe", 6, "--draws", 3)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_reconstruct_writes_draws_pictures_and_figures(tmp_path: Path, call, prior: Path, kspace: Path) -> None:
    out = tmp_path / "out.nc"
    result = call(
        "reconstruct", kspace, "-o", out, "--png", tmp_path / "out.png", "--json", tmp_path / "r.json",
        "--prior", prior, "--seed", 5, *FAST,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert names(tmp_path) == ["out.nc", "out.png", "r.json"]
    posterior = Posterior.load(out)
    assert posterior.draws.shape == (3, 1, 48, 48) and np.iscomplexobj(posterior.draws)
    attrs = posterior.dataset.attrs
    assert attrs["seed"] == 5 and attrs["method"] == "dds" and attrs["draws"] == 3
    assert len(attrs["sha256"]) == 64 and len(attrs["prior_sha256"]) == 64
    assert attrs["source"].startswith("invdiff ") and "torch_version" in attrs
    figures = json.loads((tmp_path / "r.json").read_text())
    assert {"chi2_ratio", "nfe", "seconds", "peak_memory_mib", "sigma", "acceleration"} <= set(figures)
    assert figures["nfe"] == 6 and figures["peak_memory_mib"] > 50 and "holdout_nrmse" not in figures


@pytest.fixture
def few_iterations(monkeypatch) -> None:
    quick = {}
    for name in set(classical.MRI) - {"zero_filled"}:
        method = classical.MRI[name]
        quick[name] = replace(method, run=partial(method.run, iterations=4))  # type: ignore[call-arg]
    monkeypatch.setattr(classical, "MRI", classical.MRI | quick)


@pytest.mark.usefixtures("few_iterations")
def test_held_out_data_judge_all_methods(tmp_path: Path, call, prior: Path, kspace: Path) -> None:
    figures_file = tmp_path / "r.json"
    result = call(
        "reconstruct", kspace, "-o", tmp_path / "out.nc", "--json", figures_file, "--prior", prior,
        "--holdout", 0.1, *FAST,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    figures = json.loads(figures_file.read_text())
    assert set(figures["holdout_nrmse"]) == {
        "zero_filled", "cg_sense", "tv_sense", "wavelet_sense", "posterior_mean",
    }  # fmt: skip
    keys = {"holdout_calibration", "chi2_ratio", "nfe", "seconds", "peak_memory_mib", "sigma", "acceleration"}
    assert keys <= set(figures)
    # Zero-filling predicts zero but for the spread of its maps; regularised least squares predicts.
    assert figures["holdout_nrmse"]["cg_sense"] < figures["holdout_nrmse"]["zero_filled"]
    assert Posterior.load(tmp_path / "out.nc").dataset.attrs["holdout_fraction"] == 0.1


def test_draws_do_not_see_what_was_held_out(kspace: Path, prior: Path, monkeypatch) -> None:
    monkeypatch.setattr(classical, "MRI", {"zero_filled": classical.MRI["zero_filled"]})
    measurement = invdiff.read(kspace)
    changed = invdiff.read(kspace)
    _, held = split(measurement, 0.2)
    changed.y = torch.where(held[0], 7 * changed.y, changed.y)
    one, other = (
        reconstruct(m, Settings("dds", prior, nfe=3, draws=1, holdout=0.2, progress=False))
        for m in (measurement, changed)
    )
    np.testing.assert_array_equal(one.posterior.draws, other.posterior.draws)
    assert one.figures["holdout_nrmse"] != other.figures["holdout_nrmse"]


@pytest.mark.usefixtures("few_iterations")
@pytest.mark.parametrize("method", ["zero_filled", "cg", "tv", "wavelet"])
def test_baselines_are_methods_too(tmp_path: Path, call, kspace: Path, method: str) -> None:
    out = tmp_path / "out.nc"
    result = call("reconstruct", kspace, "-o", out, "--png", tmp_path / "out.png", "--method", method)
    assert result.exit_code == 0, result.output  # no prior is needed
    posterior = Posterior.load(out)
    assert posterior.draws.shape == (1, 1, 48, 48)
    assert posterior.dataset.attrs["method"] == method and posterior.diagnostics["nfe"] == 0


def test_whole_kspace_takes_a_baseline_at_its_usual_strength(tmp_path: Path, call) -> None:
    y, x = np.mgrid[-1:1:24j, -1:1:32j]
    image = (y**2 + x**2 < 0.6) * np.stack([1 + y, 1 - x])
    k = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image, axes=(1, 2)), norm="ortho"), axes=(1, 2))
    np.save(tmp_path / "k.npy", k.astype(np.complex64))
    done = call("reconstruct", tmp_path / "k.npy", "--method", "cg", "--alone", "--sigma", 0.1, "-o", tmp_path / "o.nc")
    assert done.exit_code == 0, done.output
    noise = np.random.default_rng(0).normal(size=(2, 24, 32, 2)) @ np.array([1, 1j])
    np.save(tmp_path / "n.npy", noise.astype(np.complex64))
    done = call("reconstruct", tmp_path / "n.npy", "--method", "cg", "--alone", "-o", tmp_path / "p.nc")
    assert done.exit_code == 2 and "espirit cannot tell coils from noise" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("missing.npy",), "missing.npy"),
        (("-o", "out.tif"), "must end in .nc, .h5"),
        (("-o", "nowhere/out.nc"), "nowhere"),
        (("--png", "out.jpg"), "must end in .png"),
        (("--method", "magic"), "no sampler 'magic'; known: "),
        (("--method", "tv", "--nfe", 5), "neither nfe nor solver"),
        (("--prior", "magic"), "no prior 'magic'"),
        (("--memory", "much"), "--memory is 'much'"),
        (("--holdout", 1.5), "fraction"),
        (("--slice", 3), "slice"),
        (("--device", "cuda:99"), "cuda:99"),
        (("--sigma", -1), "sigma is -1"),
        (("-o", "out.nii.gz"), "do not say how large its pixels are"),
        (("--method", "fbp"), "fbp is no method for MRI"),
        (("--format", "tiff"), "--format is 'tiff'"),
        (("--slice", "1-3"), "--slice is '1-3'"),
        (("--coils", 4), "--coils: for simulated data only"),
        (("--simulate", "pet"), "--simulate is 'pet'"),
        (("--simulate", "mri", "--counts", 5), "--counts cannot be used with --simulate mri"),
        (("--bin", 2), "was to be read with bin"),
    ],
)
def test_mistakes_end_with_one_line_and_no_file(
    tmp_path: Path, call, prior: Path, kspace: Path, monkeypatch, arguments: tuple[Any, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    file = () if arguments[0] == "missing.npy" else (kspace,)
    result = call("reconstruct", *file, "-o", "out.nc", "--prior", prior, "--method", "dds", "--nfe", 2, *arguments)
    assert result.exit_code == 2
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and message in last
    assert names(tmp_path) == []


def test_debug_shows_where(tmp_path: Path, call, monkeypatch) -> None:
    monkeypatch.setenv("INVDIFF_DEBUG", "1")
    result = call("reconstruct", tmp_path / "missing.npy", "-o", tmp_path / "out.nc")
    assert isinstance(result.exception, invdiff.errors.FileError)


def test_interrupted_run_goes_on_to_the_same_bits(tmp_path: Path, call, prior: Path, kspace: Path, monkeypatch) -> None:
    def command(out: str, *more: str) -> Any:
        # 1 MiB holds one draw, so that the draws are computed one after the other.
        return call("reconstruct", kspace, "-o", tmp_path / out, "--prior", prior, "--memory", "1MiB", *FAST, *more)

    assert command("whole.nc").exit_code == 0
    steps = 0

    def stop(state: Any, measurement: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == 6 + 4:  # in the second draw
            raise KeyboardInterrupt

    untouched = invdiff.sample
    monkeypatch.setattr(draw, "sample", lambda *a, **k: untouched(*a, **(k | {"watch": stop})))
    stopped = command("out.nc")
    assert stopped.exit_code == 130
    assert "out.nc.ckpt" in stopped.stderr and "--resume" in stopped.stderr
    assert names(tmp_path) == ["out.nc.ckpt", "whole.nc"]
    again = command("out.nc")
    assert again.exit_code == 2 and "--resume" in again.stderr  # nothing is overwritten unasked
    monkeypatch.undo()
    for option in ("--seed", "--texture"):  # draws of another stream, or of another prior
        other = command("out.nc", "--resume", option, "1")
        assert other.exit_code == 2 and "other options" in other.stderr
    assert command("out.nc", "--resume").exit_code == 0
    assert names(tmp_path) == ["out.nc", "whole.nc"]
    one, two = (Posterior.load(tmp_path / name).draws.values for name in ("out.nc", "whole.nc"))
    np.testing.assert_array_equal(one, two)


def test_failed_run_leaves_nothing(tmp_path: Path, call, prior: Path, kspace: Path, monkeypatch) -> None:
    def fail(state: Any, measurement: Any) -> None:
        raise invdiff.errors.InputError("the sampler returned NaN")

    untouched = invdiff.sample
    monkeypatch.setattr(draw, "sample", lambda *a, **k: untouched(*a, **(k | {"watch": fail})))
    result = call("reconstruct", kspace, "-o", tmp_path / "out.nc", "--prior", prior, *FAST)
    assert result.exit_code == 2 and result.stderr.strip().endswith("error: the sampler returned NaN")
    assert names(tmp_path) == []
