"""A whole run: every seed, with and without bias; figures as the command's JSON; files and plots in its folder."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from invdiff.errors import FileError
from invdiff.files import replacing
from invdiff.metrics.free_energy import effective_size
from invdiff.molecules.config import MoleculeConfig
from invdiff.molecules.joined import Joined, join
from invdiff.molecules.judge import combine, judge_seed, judge_unbiased
from invdiff.molecules.keeping import SeedRun
from invdiff.molecules.output import write_all
from invdiff.molecules.parts import check
from invdiff.molecules.seed import run_seed
from invdiff.molecules.systems import Case, build

__all__ = ["run_molecule"]

KJ_PER_KCAL = 4.184


def run_molecule(
    config: MoleculeConfig,
    folder: Path,
    report: Callable[[str], None] = print,
    progress: bool = True,
) -> dict[str, Any]:
    """Run a configuration in a folder and return its figures.

    The same call goes on after an interruption, to the bit. A finished folder is read, not computed again.

    Raises:
        FileError: the folder holds another run. InputError, MissingExtraError: as of `invdiff.molecules.systems.build`.
    """
    case = build(config)
    bare = case if config.compare.warm else replace(case, config=_without_warm_start(config))
    check(case)
    claim(folder, config)
    bar = _Bar(progress)
    runs: list[SeedRun] = []
    judged: list[dict[str, Any]] = []
    plain: list[dict[str, Any]] = []
    for seed in config.seeds:
        runs.append(run_seed(case, folder / f"seed-{seed}", seed, bar.named(f"seed {seed}")))
        judged.append(judge_seed(config, runs[-1]))
        report(_line(judged[-1]))
        if config.compare.unbiased and config.bias is not None:
            other = run_seed(bare, folder / f"seed-{seed}-unbiased", seed, bar.named(f"seed {seed}, no bias"), True)
            plain.append(judge_unbiased(config, other))
            report(f"seed {seed} without bias: delta F {plain[-1]['delta_f']:.3f} kT, from the draws as they are")
    bar.close()
    joined = join(runs, config.states.a, config.states.b)
    for one, weight in zip(runs, joined.log_weights, strict=True):
        one.chains["w"] = weight
    figures = _figures(case, judged, plain, joined)
    if config.compare.metadynamics is not None:
        from invdiff.molecules.reference import metadynamics

        figures["metadynamics"] = metadynamics(case, folder, config.compare.metadynamics, report)
    write_all(case, runs, figures, folder)
    for warning in figures["warnings"]:
        report(f"warning: {warning}")
    return figures


def claim(folder: Path, config: MoleculeConfig) -> None:
    """Make the folder this run's, or see that it is. Raises FileError where it holds another."""
    text = json.dumps(config.model_dump(mode="json"), indent=2, sort_keys=True) + "\n"
    note = folder / "config.json"
    if note.is_file():
        if note.read_text(encoding="utf-8") != text:
            raise FileError(f"{folder} holds a run with another configuration; give another --out, or remove it")
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make the folder {folder}: {error}") from error
    with replacing(note) as part:
        part.write_text(text, encoding="utf-8")


def _without_warm_start(config: MoleculeConfig) -> MoleculeConfig:
    return config.model_copy(update={"training": config.training.model_copy(update={"warm": 0})})


def _figures(case: Case, judged: list[dict[str, Any]], plain: list[dict[str, Any]], joined: Joined) -> dict[str, Any]:
    """What the command's JSON holds; the error is the largest of what blocks, seeds and two routes tell."""
    config = case.config
    value, error = combine([j["delta_f"] for j in judged], [j["stderr"] for j in judged])
    mean = value
    if joined.method == "mbar":
        value, error = joined.delta_f, max(error, joined.stderr, abs(joined.delta_f - mean))
    figures: dict[str, Any] = {"name": config.name, "delta_f_kT": value, "exact_kT": case.exact(), "stderr_kT": error}
    if config.temperature is not None:
        kj = case.target.kT
        figures |= {"delta_f_kj": kj * value, "stderr_kj": kj * error}
        figures |= {"delta_f_kcal": kj * value / KJ_PER_KCAL, "stderr_kcal": kj * error / KJ_PER_KCAL}
    warnings = [f"seed {j['seed']}: {w}" for j in judged for w in j["warnings"]]
    worst = max((abs(j["delta_f"] - value) for j in judged), default=0.0)
    if len(judged) > 1 and worst > max(3 * error, 0.3):
        warnings.append(f"the seeds disagree by up to {worst:.2f} kT from their mean")
    figures |= {
        "energies": sum(j["energies"]["total"] for j in judged),
        "seconds": sum(j["seconds"]["total"] for j in judged),
        "ess": effective_size(torch.cat([run.flatten() for run in joined.log_weights])),
        "joined_by": joined.method,
        "mean_of_seeds_kT": mean,
        "seeds": judged,
        "restraints": [r.name for r in config.restraints],
        "warnings": warnings,
        "config": hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:16],
        "torch": torch.__version__,
    }
    if plain:
        mean, spread = combine([p["delta_f"] for p in plain], [0.0] * len(plain))
        figures["unbiased"] = {
            "delta_f_kT": mean,
            "stderr_kT": spread,
            "energies": sum(p["energies"] for p in plain),
            "seconds": sum(p["seconds"] for p in plain),
            "seeds": plain,
        }
    return figures


def _line(j: dict[str, Any]) -> str:
    of_bias = "" if j["of_bias"] is None else f", bias alone {j['of_bias']:.3f}"
    return (
        f"seed {j['seed']}: delta F {j['delta_f']:.3f} +- {j['stderr']:.3f} kT (draws {j['of_draws']:.3f}{of_bias})"
        f"; {j['energies']['total']} energies in {j['seconds']['total']:.0f} s"
    )


class _Bar:
    """One progress bar for all that goes on."""

    def __init__(self, wanted: bool) -> None:
        from tqdm import tqdm

        self.bar = tqdm(disable=not wanted, unit="epoch", leave=False)
        self.phase = ""

    def named(self, name: str) -> Callable[[dict[str, Any]], None]:
        def told(news: dict[str, Any]) -> None:
            phase = f"{name}, {news['phase']}"
            if phase != self.phase:
                self.phase = phase
                self.bar.reset(total=news["total"])
                self.bar.set_description(phase)
            self.bar.n = news["done"]
            shown = {"energies": news["energies"]}
            if news.get("hills"):
                shown["hills"] = news["hills"]
            if math.isfinite(news.get("delta_f", math.nan)):
                shown |= {"dF": f"{news['delta_f']:.2f} kT", "ESS": f"{news['ess']:.0%}"}
            self.bar.set_postfix(shown, refresh=False)
            self.bar.refresh()

        return told

    def close(self) -> None:
        self.bar.close()
