"""`invdiff molecule run`, tiny: figures, files, resuming to the bit, and what is said when something is wrong."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from invdiff.bridges import checkpoint
from invdiff.cli import app
from invdiff.errors import FileError, InputError
from invdiff.molecules import keeping
from invdiff.molecules.config import MoleculeConfig, load_config
from invdiff.molecules.judge import combine, judge_seed
from invdiff.molecules.keeping import SeedRun
from invdiff.molecules.run import run_molecule
from invdiff.posterior import Posterior

TINY: dict[str, Any] = {
    "name": "tiny",
    "system": {"kind": "double_well", "options": {"barrier": 3.0, "tilt": 0.3}},
    "variables": [{"kind": "coordinate", "index": 0}],
    "bias": {"gamma": 4.0, "height": 4.0, "axes": [{"low": -4.0, "high": 4.0, "points": 81, "width": 0.3}]},
    "states": {"a": [[None, 0.0]], "b": [[0.0, None]]},
    "schedule": {"low": 0.02, "high": 3.0},
    "network": {"width": 24, "depth": 2},
    "start": {"x": [-2.0, 1.0], "spread": 0.1, "walkers": 16, "steps": 40, "skip": 10, "every": 10, "step": 0.3},
    "training": {
        "warm": 4,
        "fresh": 64,
        "first": 128,
        "buffer": 256,
        "batch": 64,
        "updates": 4,
        "steps": 15,
        "stages": [{"adjoint": 6, "corrector": 2}, {"adjoint": 3, "deposit": False}],
    },
    "samples": 200,
    "refine": {"walkers": 128, "burn": 40, "deposit_every": 10, "steps": 240, "every": 4, "keep": 60, "step": 0.6},
    "compare": {"unbiased": True, "warm": False},
}


def tiny(**changes: Any) -> MoleculeConfig:
    return MoleculeConfig.model_validate(copy.deepcopy(TINY) | changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("molecule") / "run"
    return folder, run_molecule(tiny(), folder, lambda _: None, progress=False)


def test_refined_figure_is_right(finished: tuple[Path, dict[str, Any]]) -> None:
    figures = finished[1]
    assert 0 < figures["stderr_kT"] < 0.35
    assert figures["delta_f_kT"] == pytest.approx(figures["exact_kT"], abs=4 * figures["stderr_kT"])
    energies = figures["seeds"][0]["energies"]
    assert energies["start"] == 16 + 16 * 40  # the first evaluation, then one a step
    assert energies["training"] == energies["start"] + 128 + 8 * 64
    assert figures["energies"] == energies["total"] == energies["training"] + 128 + 128 * 280
    assert figures["unbiased"]["energies"] == 128 + 8 * 64
    assert 1 < figures["ess"] < 128 * 60


def test_files_hold_weighted_samples(finished: tuple[Path, dict[str, Any]]) -> None:
    folder, figures = finished
    written = json.loads((folder / "result.json").read_text())
    assert written["delta_f_kT"] == figures["delta_f_kT"]
    with np.load(folder / "samples.npz") as held:
        samples = {name: held[name] for name in held.files}
    assert samples["positions"].shape == (128 * 4, 2)
    assert np.allclose(samples["positions"][:, :1], samples["cv"])
    with np.load(folder / "bias.npz") as held:
        own = np.interp(samples["cv"][:, 0], held["axis0"], held["seed0"])
    assert np.allclose(own, samples["log_weight"], atol=0.02)
    posterior = Posterior.load(folder / "posterior.nc")
    assert posterior.draws.dims == ("draw", "component") and posterior.ess() < 128 * 4
    right = float((posterior.weights * (posterior.draws[:, 0] > 0)).sum())
    assert -math.log(right / (1 - right)) == pytest.approx(figures["delta_f_kT"], abs=0.6)
    with np.load(folder / "free_energy.npz") as held:
        middle = 0.5 * (held["edges0"][1:] + held["edges0"][:-1])
        parts = [held["refined"][where] for where in (middle < 0, middle > 0)]
        assert held["of_bias_seed0"].min() == 0 and held["unit"] == "kT"
    found = -math.log(np.exp(-parts[1]).sum() / np.exp(-parts[0]).sum())
    assert found == pytest.approx(figures["seeds"][0]["counted"], abs=5e-3)  # a few states lie beyond the bins
    for name in ("free_energy.png", "histogram.png", "convergence.png"):
        assert (folder / name).read_bytes()[:4] == b"\x89PNG"


def test_without_a_bias_the_chains_still_speak(tmp_path: Path) -> None:
    config = tiny(bias=None, compare={}, system={"kind": "double_well", "options": {"barrier": 0.5, "tilt": 0.3}})
    figures = run_molecule(config, tmp_path / "run", lambda _: None, progress=False)
    assert figures["delta_f_kT"] == pytest.approx(figures["exact_kT"], abs=4 * figures["stderr_kT"])
    assert figures["stderr_kT"] < 0.3 and figures["ess"] == pytest.approx(128 * 60)
    assert (tmp_path / "run" / "free_energy.png").is_file() and not (tmp_path / "run" / "bias.npz").exists()


def test_a_state_that_is_never_seen_ends_in_words(tmp_path: Path) -> None:
    states = {"a": [[None, 0.0]], "b": [[30.0, 31.0]]}
    figures = run_molecule(tiny(states=states, compare={}), tmp_path / "run", lambda _: None, progress=False)
    assert math.isinf(figures["delta_f_kT"]) or math.isnan(figures["delta_f_kT"])
    assert "never seen" in figures["warnings"][0] and (tmp_path / "run" / "convergence.png").is_file()


def test_seeds_are_joined(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    pytest.importorskip("pymbar")
    figures = run_molecule(tiny(seeds=[0, 1], compare={}), tmp_path / "run", lambda _: None, progress=False)
    assert figures["joined_by"] == "mbar" and finished[1]["joined_by"] == "one run"
    assert figures["seeds"][0]["delta_f"] == finished[1]["delta_f_kT"]
    assert figures["delta_f_kT"] == pytest.approx(figures["exact_kT"], abs=4 * figures["stderr_kT"])
    with np.load(tmp_path / "run" / "samples.npz") as held:
        assert held["log_weight"].shape == (2 * 128 * 4,)
        assert not np.allclose(held["log_weight"] - held["bias"], (held["log_weight"] - held["bias"])[0], atol=0.05)


def test_same_seed_same_numbers_and_a_finished_run_is_read(finished: tuple[Path, dict[str, Any]]) -> None:
    folder, figures = finished
    again = run_molecule(tiny(), folder, lambda _: None, progress=False)
    assert again["delta_f_kT"] == figures["delta_f_kT"] and again["energies"] == figures["energies"]
    with pytest.raises(FileError, match="another configuration"):
        run_molecule(tiny(samples=300), folder, lambda _: None, progress=False)


@pytest.mark.parametrize("stop", [3, 9, 40, 100])
def test_interrupted_runs_go_on_to_the_bit(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    """Ctrl-C in the warm start, in training, while settling and while refining."""
    seen = 0
    original = checkpoint.save

    config = tiny(checkpoint_every=1e-6)

    def save(path: Path, tensors: Any, counters: Any) -> None:
        nonlocal seen
        original(path, tensors, counters)
        seen += 1
        if seen == stop:
            raise KeyboardInterrupt

    monkeypatch.setattr(keeping, "save", save)
    with pytest.raises(KeyboardInterrupt):
        run_molecule(config, tmp_path / "run", lambda _: None, progress=False)
    again = run_molecule(config, tmp_path / "run", lambda _: None, progress=False)
    assert again["delta_f_kT"] == finished[1]["delta_f_kT"] and again["energies"] == finished[1]["energies"]
    for name in ("train", "chains"):
        whole, _ = checkpoint.load(finished[0] / "seed-0" / f"{name}.safetensors")
        parts, _ = checkpoint.load(tmp_path / "run" / "seed-0" / f"{name}.safetensors")
        assert whole.keys() == parts.keys() and all(torch.equal(whole[k], parts[k]) for k in whole)


def test_command_writes_the_figures(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    arguments = ["molecule", "run", str(path), "--out", str(finished[0]), "--json", str(tmp_path / "d.json")]
    done = CliRunner().invoke(app, [*arguments, "--no-progress"])
    assert done.exit_code == 0, done.output
    written = json.loads((tmp_path / "d.json").read_text())
    assert {"delta_f_kT", "exact_kT", "stderr_kT", "energies", "seconds", "ess"} <= written.keys()
    assert "+-" in done.output


def test_wrong_configurations_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="double_well"):
        load_config("no such")
    for change, word in (
        ({"gamma": 3}, "gamma"),
        ({"variables": [{"kind": "coordinate"}, {"kind": "coordinate", "index": 1}]}, "axes"),
        ({"refine": {"method": "langevin"}}, "masses"),
        ({"refine": {"keep": 7}}, "multiple"),
        ({"system": {"kind": "molecule"}}, "name or file"),
    ):
        path = tmp_path / "wrong.yaml"
        path.write_text(yaml.safe_dump(TINY | change))
        with pytest.raises(InputError, match=word):
            load_config(str(path))
    with pytest.raises(InputError, match="coordinate 5"):
        run_molecule(
            tiny(variables=[{"kind": "coordinate", "index": 5}]), tmp_path / "x", lambda _: None, progress=False
        )
    with pytest.raises(InputError, match="temperature"):
        run_molecule(tiny(temperature=300.0), tmp_path / "y", lambda _: None, progress=False)


@pytest.mark.parametrize("name", ["double_well", "muller_brown", "sn2_xtb", "alanine_dipeptide", "glycine_dipeptide"])
def test_shipped_configurations_are_valid(name: str) -> None:
    config = load_config(name)
    assert config.name == name and not config.training.stages[-1].deposit


def chains(share: torch.Tensor, frames: int = 200, stay: float = 1.0) -> SeedRun:
    """Chains that sit in state b with the given probabilities and mostly stay where they are."""
    rng = torch.Generator().manual_seed(0)
    s = torch.where(torch.rand(len(share), 1, generator=rng) < share[:, None], 1.0, -1.0).expand(-1, frames).clone()
    flips = torch.rand(len(share), frames, generator=rng) > stay
    s = s * torch.where(flips.cumsum(1) % 2 == 1, -1.0, 1.0)
    s = s[..., None]
    return SeedRun(0, None, {"s": s[:, 0]}, {"s": s, "u": s[..., 0], "v": torch.zeros(s.shape[:2])})


def test_warnings_say_what_is_wrong() -> None:
    config = tiny(bias=None)
    fine = judge_seed(config, chains(torch.full((200,), 0.5), stay=0.95))
    assert fine["warnings"] == [] and fine["delta_f"] == pytest.approx(0, abs=0.2)
    stuck = judge_seed(config, chains(torch.full((200,), 0.3)))
    assert any("changes state 0.00 times" in w for w in stuck["warnings"])
    empty = judge_seed(config, chains(torch.zeros(20)))
    assert "never seen" in empty["warnings"][0]
    off = chains(torch.full((200,), 0.5), stay=0.95)
    off.draws["s"] = -torch.ones(100, 1)
    off.draws["s"][:5] = 1
    assert any("sampler is off" in w for w in judge_seed(config, off)["warnings"])
    off.draws["s"] = -off.draws["s"]  # and the other way
    assert any("sampler is off" in w for w in judge_seed(config, off)["warnings"])
    few = chains(torch.full((200,), 0.97))
    few.draws["s"] = (torch.arange(100) < 50).float()[:, None] * 2 - 1  # 1 to 1 where the chains have 1 to 30
    assert any("sampler is off" in w for w in judge_seed(config, few)["warnings"])
    burst = chains(torch.full((200,), 0.5), stay=0.95)
    burst.chains["u"] = burst.chains["u"].clone()
    burst.chains["u"][0, -2:] = torch.tensor([1e7, math.nan])
    found = judge_seed(config, burst)
    assert found["blown_up"] == 2 / 200**2 and "blown up" in found["warnings"][0] and fine["blown_up"] == 0
    lost = chains(torch.zeros(20))  # in one state, and all of them blown
    lost.chains["u"] = torch.full_like(lost.chains["u"], math.nan)
    assert ["blown up" in w or "never seen" in w for w in judge_seed(config, lost)["warnings"]] == [True, True]
    moving = chains(torch.zeros(200), stay=0.997)
    assert any("moved by" in w or "rates of exchange" in w for w in judge_seed(config, moving)["warnings"])


def test_seeds_and_blocks_both_count() -> None:
    assert combine([1.0, 1.2, 0.8], [0.01] * 3)[1] == pytest.approx(0.2 / 3**0.5)
    assert list(combine([1.0, 1.0, 1.0], [0.3] * 3)) == pytest.approx([1.0, 0.3 / 3**0.5])
    assert list(combine([2.0], [0.1])) == pytest.approx([2.0, 0.1])
