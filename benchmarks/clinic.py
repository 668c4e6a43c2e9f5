"""Scanners' files end to end: real CT counts, a real CT head and a real MRI head, beside classical methods.

Each case is one ``invdiff reconstruct`` (its arguments are in the results) on a few slices with few draws. Classical
methods are tuned on the reference itself, the middle slice's PSNR, which no real case allows. The reference is the
image that was scanned in simulation or, of the tooth, filtered backprojection of all 181 views.

    INVDIFF_DATA=... python benchmarks/clinic.py --json benchmarks/results/clinic.json --pictures benchmarks/results
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import record
import torch

from invdiff.cli.scans import scan_of, slices_of
from invdiff.cli.tables import TITLES
from invdiff.datasets.reading import read_volume
from invdiff.reconstruction import Reconstruction, Settings, read_case, reconstruct, write
from invdiff.report.panel import panel

CT = {"simulate": "ct", "slice": "20,40,60,80", "draws": 8, "nfe": 20}
TOOTH = {"slice": "0", "bin": 4, "draws": 8, "nfe": 20}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "head_30_views": ("ct/head.mha", {**CT, "views": 30}),
    "tooth_30_views": ("ct/tooth_counts.h5", {**TOOTH, "views": 30}),
    "t1w_4x": (
        "mri/t1w_dicom",
        {"simulate": "mri", "coils": 8, "acceleration": 4.0, "slice": "40:42", "method": "dds-tight", "draws": 4,
         "nfe": 12},
    ),
    "head_60_views": ("ct/head.mha", {**CT, "views": 60}),
    "head_15_views": ("ct/head.mha", {**CT, "views": 15}),
    "head_limited_90": ("ct/head.mha", {**CT, "views": 60, "arc": 90.0}),
    "tooth_60_views": ("ct/tooth_counts.h5", {**TOOTH, "views": 60}),
    "tooth_15_views": ("ct/tooth_counts.h5", {**TOOTH, "views": 15}),
}  # fmt: skip
READER = ("bin", "size", "sigma")


def run(name: str, data: Path) -> tuple[Reconstruction, dict[str, Any]]:
    """One case, and its figures."""
    file, options = CASES[name]
    given = dict(options)
    simulate, slices = given.pop("simulate", None), slices_of(str(given.pop("slice")))
    settings = Settings(
        method=given.pop("method", "auto"), draws=given.pop("draws"), nfe=given.pop("nfe"), report=print
    )
    reader = {k: given.pop(k) for k in READER if k in given}
    if not simulate and "views" in given:
        reader["views"] = given.pop("views")
    case = read_case(data / file, scan_of(simulate, given), slices, **reader)
    done = reconstruct(case, settings)
    figures = {k: v for k, v in done.figures.items() if k != "method"}
    command = ["invdiff", "reconstruct", f"$INVDIFF_DATA/{file}"]
    command += [part for key, value in options.items() for part in (f"--{key}", str(value))]
    return done, {"command": shlex.join(command), "operator": repr(done.measurement.operator), **figures}


def place(done: Reconstruction, data: Path, slices: list[int]) -> float:
    """Write the DICOM series, read it back, and return how far (mm) its voxels stand from where the original's do."""
    with tempfile.TemporaryDirectory() as folder:
        write(done, Path(folder) / "series", "dicom")
        back = read_volume(Path(folder) / "series" / "mean")
    source = read_volume(data).take(slices)
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in back.values.shape], indexing="ij")).reshape(3, -1).T
    return float(np.abs(back.world(corners) - source.world(corners)).max())


def draw(name: str, done: Reconstruction, figures: dict[str, Any], folder: Path) -> None:
    """The picture of the middle slice."""
    assert done.truth is not None
    k = len(done.truth) // 2
    mean = torch.from_numpy(done.posterior.mean().values).reshape(done.truth.shape)
    spread = torch.from_numpy(done.posterior.std().values).reshape(done.truth.shape)
    ours = figures["rows"][0]["method"]
    number = [row["slice"] for row in figures["rows"] if row["method"] == ours][k]
    scores = {row["method"]: row["psnr"] for row in figures["rows"] if row["slice"] == number}
    images = {"reference": done.truth[k, 0], f"posterior mean ({ours})": mean[k, 0]}
    images |= {TITLES.get(key, key): x[k, 0].cpu() for key, x in done.baselines.items()}
    titles = {TITLES.get(key, key): value for key, value in scores.items() if key != ours}
    panel(
        {key: x.abs().numpy() for key, x in images.items()},
        folder / f"clinic_{name}.png",
        spread={
            "posterior std": spread[k, 0].numpy(),
            "|error| of the mean": (mean[k, 0].abs() - done.truth[k, 0].abs()).abs().numpy(),
        },
        scores={**titles, f"posterior mean ({ours})": scores[ours]},
        coords=done.measurement.coords,
        heading=f"{name.replace('_', ' ')}, slice {number}, {figures['draws']} draws",
    )


def main() -> None:
    """Run the cases one after the other; the results are written after each, beside those of other cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--pictures", type=Path, help="folder for one picture a case")
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    options = parser.parse_args()
    data = Path(os.environ["INVDIFF_DATA"])
    results: dict[str, Any] = {}
    if options.json and options.json.is_file():  # the other cases' figures stay
        results = json.loads(options.json.read_text(encoding="utf-8"))["cases"]
    for name in options.cases:
        done, results[name] = run(name, data)
        if name.startswith("t1w"):
            chosen = slices_of(str(CASES[name][1]["slice"]))
            assert isinstance(chosen, list)
            results[name]["displacement_mm"] = place(done, data / CASES[name][0], chosen)
        for row in results[name]["rows"]:
            if row["slice"] == "mean":
                print(f"{name:<18}", {k: v if isinstance(v, str) else v and round(v, 3) for k, v in row.items()})
        if options.pictures:
            draw(name, done, results[name], options.pictures)
        record.write(options.json, {"cases": results})


if __name__ == "__main__":
    main()
