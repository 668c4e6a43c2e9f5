import json
from pathlib import Path

import pytest

KEYS = {
    "sampler", "solver", "sw1", "sw1_floor", "sw2", "sw2_floor", "mode_tv", "coverage90", "chi2_ratio", "nfe", "vjp",
    "seconds",
}  # fmt: skip


def figures(call, tmp_path: Path, *options: object) -> tuple[dict, str]:
    path = tmp_path / "v.json"
    small = ("--nfe", 8, "--repeats", 1, "--draws", 50)
    result = call("validate", *small, *options, "--json", path)
    assert result.exit_code == 0, result.output
    return json.loads(path.read_text()), result.output


def test_mixture(call, tmp_path: Path) -> None:
    found, output = figures(call, tmp_path, "--suite", "mixture", "--dim", 8, "--observed", 1, "--sampler", "mmps",
                            "--sampler", "dds", "--seed", 3)  # fmt: skip
    assert [row["sampler"] for row in found["rows"]] == ["mmps", "dds"] and found["skipped"] == []
    assert set(found["rows"][0]) >= KEYS
    row = found["rows"][0]
    assert row["nfe"] == 8 and row["vjp"] >= 8 and row["solver"] == "dpmpp2m-sde" and row["draws"] == 50
    assert row["sw1"] > 0 and 0 < row["sw1_floor"] < row["sw2_floor"] and row["sw1_se"] is None  # of one repeat
    assert found["problems"][0]["sigma"] > 0 and found["seed"] == 3
    assert "mmps" in output and "SW1" in output


@pytest.mark.parametrize("suite", ["gaussian", "field", "complex", "nonlinear", "density"])
def test_every_suite(call, tmp_path: Path, suite: str) -> None:
    size = ("--dim", 8) if suite == "field" else ()
    found, output = figures(call, tmp_path, "--suite", suite, *size, "--sampler", "dps", "--sampler", "pigdm")
    cases = {"complex": 3, "density": 2}.get(suite, 1)
    assert len(found["rows"]) + len(found["skipped"]) == 2 * cases
    assert sum(row["sampler"] == "dps" for row in found["rows"]) == cases
    if suite == "nonlinear":  # what needs a linear operator is listed with the reason
        assert [entry["sampler"] for entry in found["skipped"]] == ["pigdm"]
        assert "linear" in found["skipped"][0]["reason"] and "not run: pigdm on nonlinear" in output
        assert found["problems"][0]["truth_ess"] > 1000
    if suite == "gaussian":
        assert found["rows"][0]["mode_tv"] is None


def test_an_operator_and_a_sampler_of_one_s_own(call, tmp_path: Path) -> None:
    found, _ = figures(
        call, tmp_path, "--operator", "invdiff.operators:Matrix", "--sampler", "invdiff.samplers.named:mmps"
    )
    assert found["suite"] == "operator" and found["rows"][0]["case"] == "Matrix"
    assert 0.7 < found["rows"][0]["std_ratio"] < 1.3  # Gaussian: nearly right with 8 evaluations already


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--suite", "nothing"), "no suite 'nothing'"),
        (("--sampler", "nothing"), "no sampler 'nothing'"),
        (("--operator", "nothing"), "no operator 'nothing'"),
        (("--operator", "phase-retrieval", "--sampler", "mmps"), "nonlinear"),
        (("--json", "/no/such/folder/v.json"), "does not exist"),
        (("--suite", "field", "--observed", 2), "observed"),
    ],
)
def test_mistakes(call, options, words) -> None:
    result = call("validate", *options)
    assert result.exit_code == 2 and words in result.stderr


def test_nothing_that_runs(call, tmp_path: Path) -> None:
    result = call("validate", "--suite", "nonlinear", "--sampler", "pigdm", "--repeats", 1, "--draws", 50)
    assert result.exit_code == 1 and "no sampler could be run" in result.output
