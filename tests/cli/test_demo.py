import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from invdiff.demo import coverage, simulate
from invdiff.operators.mri.masks import achieved_acceleration
from invdiff.posterior import Posterior
from invdiff.random import generator

METHODS = {"zero_filled", "cg_sense", "tv_sense", "posterior_mean"}


def test_demo_from_end_to_end(tmp_path: Path, call, prior: Path) -> None:
    out, figures_file = tmp_path / "demo", tmp_path / "d.json"
    # Quality is not judged here: the prior is white noise, and the maps come from 8 columns of k-space.
    result = call(
        "demo", "--out", out, "--json", figures_file, "--size", 48, "--draws", 3, "--nfe", 8, "--prior", prior,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    figures = json.loads(figures_file.read_text())
    for score in ("psnr", "ssim", "nmse"):
        assert set(figures[score]) == METHODS
    assert {"coverage90", "chi2_ratio", "nfe", "seconds"} <= set(figures)
    assert figures["nfe"] == 8 and 0 <= figures["coverage90"] <= 1 and figures["chi2_ratio"] > 0.5
    # Each tuned for the truth, edges are a better model of a head than white noise.
    assert figures["psnr"]["tv_sense"] > figures["psnr"]["cg_sense"]
    assert figures["sigma"] == pytest.approx(0.02, rel=0.1) and figures["sigma_true"] == 0.02
    assert f"{figures['psnr']['posterior_mean']:.2f}" in result.output
    assert Posterior.load(out / "posterior.nc").draws.shape == (3, 1, 48, 48)
    assert (out / "panel.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in out.iterdir()) == ["kspace.h5", "panel.png", "posterior.nc"]


def test_simulated_file_is_fastmri_and_keeps_the_truth_to_itself(tmp_path: Path) -> None:
    truth = simulate(tmp_path / "a.h5", seed=1, size=96)
    assert truth.shape == (1, 96, 96) and truth.dtype == torch.complex64
    with h5py.File(tmp_path / "a.h5") as file:
        assert set(file) == {"kspace", "mask", "ismrmrd_header"}
        assert file["kspace"].shape == (1, 8, 96, 96) and file["kspace"].dtype == np.complex64
        assert 3.6 < achieved_acceleration(torch.from_numpy(file["mask"][:])) < 4.4
        first = file["kspace"][:]
    simulate(tmp_path / "b.h5", seed=1, size=96)
    with h5py.File(tmp_path / "b.h5") as file:
        np.testing.assert_array_equal(file["kspace"][:], first)  # the seed decides
    assert not torch.equal(simulate(tmp_path / "c.h5", seed=2, size=96), truth)


def test_coverage_counts_the_object_only() -> None:
    rng = generator(0)
    truth = torch.zeros(1, 40, 40)
    truth[:, 10:30, 10:30] = 1 + 0.1 * torch.randn(1, 20, 20, generator=rng)
    draws = torch.zeros(20, 1, 40, 40)
    draws[:, :, 10:30, 10:30] = 1 + 0.1 * torch.randn(20, 1, 20, 20, generator=rng)
    # 400 independent pixels of the law the draws come from: 0.9 up to 4 standard errors of sqrt(0.9 0.1 / 400).
    assert abs(coverage(truth, Posterior.from_draws(draws), 0.9) - 0.9) < 0.06
    assert coverage(truth + 5 * (truth > 0), Posterior.from_draws(draws), 0.9) == 0


def test_without_its_prior_the_demo_says_so_and_writes_nothing(tmp_path: Path, call) -> None:
    result = call("demo", "--out", tmp_path / "demo", "--prior", "no-such-prior")
    assert result.exit_code == 2 and result.stderr.startswith("error: no prior 'no-such-prior'")
    assert list(tmp_path.iterdir()) == []
