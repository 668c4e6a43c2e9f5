import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from invdiff.cli import app
from invdiff.cli.options import memory_size, write_json
from invdiff.errors import InputError


def test_help_loads_nothing_heavy() -> None:
    code = "import sys, invdiff.cli; print(sorted({'torch', 'numpy', 'xarray', 'matplotlib'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("command", ["validate", "demo", "reconstruct", "train", "check", "priors", "info"])
def test_every_command_has_help(call, command: str) -> None:
    assert command in CliRunner().invoke(app, ["--help"]).output
    result = call(command, "--help")
    assert result.exit_code == 0 and "--json" in result.output


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GiB", 2 * 2**30), ("500 MB", 500 * 2**20), ("8g", 8 * 2**30), ("1.5GiB", 3 * 2**29), ("2000000", 2_000_000)],
)
def test_memory_sizes(text: str, size: int) -> None:
    assert memory_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "-2GiB", "2 bytes of", "10k", "nan"])
def test_other_memory_sizes_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="--memory"):
        memory_size(text)


def test_json_is_valid_whatever_the_numbers(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": float("inf"), "b": {"c": (1, float("nan"))}, "d": tmp_path})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": None, "b": {"c": [1, None]}, "d": str(tmp_path)}


def test_check_passes_for_the_mri_operator(tmp_path: Path, call) -> None:
    result = call("check", "invdiff.operators:MRI", "--json", tmp_path / "c.json")
    assert result.exit_code == 0, result.output
    assert "adjoint" in result.output
    assert json.loads((tmp_path / "c.json").read_text())["ok"] is True


def test_check_fails_for_a_wrong_adjoint(call, monkeypatch) -> None:
    from invdiff.operators.matrix import Matrix

    adjoint = Matrix._adjoint
    monkeypatch.setattr(Matrix, "_adjoint", lambda self, y: 1.01 * adjoint(self, y))
    result = call("check", "invdiff.operators:Matrix")
    assert result.exit_code == 1 and "FAIL" in result.output


def test_check_of_nothing(call) -> None:
    result = call("check", "no-such-thing")
    assert result.exit_code == 2 and result.stderr.startswith("error: nothing is called 'no-such-thing'")


def test_info_lists_what_has_a_name(tmp_path: Path, call) -> None:
    result = call("info", "--json", tmp_path / "i.json")
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "i.json").read_text())
    assert {"dds", "mmps"} <= set(content["samplers"]) and "mri" in content["operators"]
    assert {"fastmri", "npy"} <= set(content["formats"]) and "heun" in content["solvers"]
    for group in ("samplers", "operators", "formats"):
        for name, line in content[group].items():
            assert line and "cannot be loaded" not in line, name
            assert line in result.output


def test_priors_shows_the_cards(call, prior: Path, monkeypatch) -> None:
    import invdiff.priors.loading

    monkeypatch.setattr(invdiff.priors.loading, "_FOLDER", prior.parent)
    result = call("priors")
    assert result.exit_code == 0 and "white" in result.output and "sha256" in result.output
    monkeypatch.setattr(invdiff.priors.loading, "_FOLDER", prior.parent / "empty")
    assert "no prior" in call("priors").output


def test_priors_denoises_images_that_are_given(call, prior: Path, monkeypatch, tmp_path: Path) -> None:
    import numpy as np

    import invdiff.priors.loading

    monkeypatch.setattr(invdiff.priors.loading, "_FOLDER", prior.parent)
    np.save(tmp_path / "image.npy", np.random.default_rng(0).random((2, 24, 24)))
    result = call("priors", "--data", tmp_path, "--json", tmp_path / "p.json")
    assert result.exit_code == 0, result.output
    (card,) = json.loads((tmp_path / "p.json").read_text()).values()
    assert card["images"].keys() == {"image.npy", "mean"} and card["images"]["mean"] == card["images"]["image.npy"]
    # at high noise all that is left is what the prior believes; at low noise the noise itself, 40 dB at 0.01
    assert card["images"]["mean"]["0.01"] >= 39.5 and "image.npy" in result.output
    missing = call("priors", "--data", tmp_path / "none")
    assert missing.exit_code == 2 and "does not exist" in missing.stderr


def test_figures_of_other_weights_are_not_shown(prior: Path, monkeypatch) -> None:
    import invdiff.priors.loading as loading

    monkeypatch.setattr(loading, "_FOLDER", prior.parent)
    name = prior.stem
    right = loading.shipped_priors()[name]["sha256"]
    for sha, shown in ((right, True), ("0" * 64, False)):
        prior.with_suffix(".json").write_text(json.dumps({"sha256": sha, "phantoms": {}}))
        assert ("measured" in loading.shipped_priors()[name]) is shown


def test_train_names_the_wrong_field(tmp_path: Path, call) -> None:
    pytest.importorskip("yaml")
    config = tmp_path / "bad.yaml"
    config.write_text("name: bad\nstepz: 3\n")
    result = call("train", config, "--out", tmp_path / "run")
    assert result.exit_code == 2 and "stepz" in result.stderr
    assert not (tmp_path / "run").exists()
    missing = call("train", tmp_path / "none.yaml")
    assert missing.exit_code == 2 and "none.yaml" in missing.stderr
