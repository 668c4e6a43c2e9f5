"""Energies of molecules and samplers of clusters: the evaluator against OpenMM, DW-4 and LJ-13, error against calls.

    python benchmarks/molecules.py --json benchmarks/results/molecules.json

`--only evaluator` runs one part; the others keep what the file holds of them. `molecules_reference.py` has the
metadynamics of alanine dipeptide.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from molecules_clusters import clusters
from molecules_curve import curve
from molecules_evaluator import evaluator
from record import write

SECTIONS: dict[str, Callable[[bool], dict[str, Any]]] = {
    "evaluator": evaluator,
    "clusters": clusters,
    "curve": curve,
}


def main() -> None:
    """Run the sections and write after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=sorted(SECTIONS))
    parser.add_argument("--quick", action="store_true", help="smaller, for a look")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    if options.json is not None and options.json.exists():
        held = json.loads(options.json.read_text(encoding="utf-8"))
        found = {name: held[name] for name in SECTIONS if name in held}
    for name in [options.only] if options.only else SECTIONS:
        found[name] = SECTIONS[name](options.quick)
        write(options.json, found)


if __name__ == "__main__":
    main()
