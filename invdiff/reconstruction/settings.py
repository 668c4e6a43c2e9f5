"""What `invdiff reconstruct` can be told, apart from the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from invdiff.engine.run import Watch
from invdiff.measurement import Measurement
from invdiff.priors.base import Prior
from invdiff.sampling import DEFAULT_MEMORY

__all__ = ["Settings", "default_prior"]


def _silent(line: str) -> None:
    del line


@dataclass(frozen=True)
class Settings:
    """How to reconstruct.

    Attributes:
        method: a sampler, "auto", or a classical method that fits the operator (`invdiff.reconstruction.classical`).
        prior: as `invdiff.sample` takes it; None for the shipped one of the operator's domain. Classical methods need
            none.
        draws, nfe, solver, seed, memory, checkpoint, resume, progress, watch, workers, scheduler: as in
            `invdiff.sample`.
        texture: fine detail that the prior does not know (`invdiff.priors.textured.Textured`), as a multiple of the
            noise that a fully sampled image would have; for network priors of relative unit and MRI alone. None for
            what the data need (`invdiff.reconstruction.texture`).
        holdout: leave out this fraction of the measured positions (split seed 0) and report how well they are
            predicted by the draws and by each classical method at the best of its strengths, chosen on these very data.
            The draws are then those of the posterior given the rest.
        alone: make no classical methods beside the one asked for.
        maps: keep what the report shows beside the draws: the trajectory's variance, and the misfit of the data.
        report: told what is being done.
    """

    method: str = "auto"
    prior: Prior | str | Path | None = None
    draws: int = 8
    nfe: int | None = None
    solver: str | None = None
    seed: int = 0
    texture: float | None = None
    holdout: float | None = None
    memory: int = DEFAULT_MEMORY
    checkpoint: Path | None = None
    resume: bool = False
    progress: bool = True
    alone: bool = False
    maps: bool = True
    watch: Watch | None = None
    workers: int | None = None
    scheduler: str | None = None
    report: Callable[[str], None] = field(default=_silent)

    def plain(self, texture: float) -> str:
        """The options as JSON, for provenance, with the texture that was used."""
        kept = ("method", "draws", "nfe", "solver", "seed", "holdout")
        content: dict[str, Any] = {name: getattr(self, name) for name in kept} | {"texture": texture}
        if isinstance(self.prior, (str, Path)):
            content["prior"] = str(self.prior)
        return json.dumps(content)


def default_prior(measurement: Measurement) -> str:
    """The shipped prior that fits: "mri" for complex images, "ct" where water's attenuation is known, or "generic"."""
    if measurement.operator.domain == "complex":
        return "mri"
    return "ct" if "mu_water_per_mm" in measurement.meta else "generic"
