"""The cards of the shipped priors: denoising PSNR by sigma on held-out phantoms and on real images, beside BM3D.

``python benchmarks/prior_cards.py`` measures and writes ``invdiff/weights/NAME.json`` beside each weights file;
`invdiff priors` shows what is in it. Real images come from the folder INVDIFF_DATA (left out where it is not set). BM3D
(Makinen, Azzari and Foi, 2020; the package `bm3d`, version 4) is told sigma, as the priors are. Complex images are
denoised by BM3D in their real and imaginary part apart. All are cut to `SIDE` pixels and scaled as the prior expects:
so that their 99 % magnitude is 0.8, or (`ct`, on the files of the folder ``ct``) so that water is 0.4 and air 0. PSNR
has peak 1 and counts real components.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from record import write
from torch import Tensor

import invdiff
from invdiff.priors.base import Hounsfield
from invdiff.priors.loading import load_prior, shipped_priors
from invdiff.training.data import PhantomSource
from invdiff.training.data_config import DataConfig
from invdiff.training.measure import denoising_table, slices_of
from invdiff.training.validate import psnr_by_sigma

SIGMAS = (0.02, 0.05, 0.1, 0.2)
SIDE = 128
WATER = 1000.0  # in CT files without a unit
FOLDER = Path(invdiff.__file__).parent / "weights"


def bm3d_denoise(x: Tensor, sigma: Tensor) -> Tensor:
    """BM3D on each real channel of ``(N, 1, H, W)``."""
    from bm3d import bm3d

    if x.is_complex():
        return torch.complex(bm3d_denoise(x.real, sigma), bm3d_denoise(x.imag, sigma))
    out = [bm3d(image.numpy(), float(s)) for image, s in zip(x[:, 0], sigma, strict=True)]
    return torch.stack([torch.from_numpy(o).float() for o in out])[:, None]


def card(name: str, about: dict[str, Any], phantoms: int, folder: Path) -> dict[str, Any]:
    """Measure one prior."""
    prior = load_prior(name)
    domain = about["domain"]
    data = DataConfig(
        kinds=about["data"]["kinds"], sizes=about["data"]["sizes"], pool=8, patch=64, texture=0.06,
        water=about["data"].get("water"),
    )  # fmt: skip
    pairs = PhantomSource(data, domain, 0, folder).held_out(0, phantoms).x
    clean = torch.complex(pairs[:, 0], pairs[:, 1])[:, None] if domain == "complex" else pairs
    out: dict[str, Any] = {
        "name": name,
        "sha256": about["sha256"],
        "phantoms": {
            "count": phantoms,
            "side": 64,
            "prior": psnr_by_sigma(prior.denoise, clean, SIGMAS),
            "bm3d": psnr_by_sigma(bm3d_denoise, clean, SIGMAS),
        },
    }
    root = os.environ.get("INVDIFF_DATA")
    if root:
        images = list(slices_of(root, 2, SIDE))
        if isinstance(prior.units, Hounsfield):
            images = list(slices_of(Path(root) / "ct", 2, SIDE, prior.units, WATER))
        out["real"] = {
            "side": SIDE,
            "prior": denoising_table(prior, images, domain, SIGMAS),
            "bm3d": denoising_table(bm3d_denoise, images, domain, SIGMAS),
        }
    return out


def main() -> None:
    """Measure every shipped prior and write its card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phantoms", type=int, default=10)
    parser.add_argument("--to", type=Path, default=FOLDER, help="folder of the cards")
    parser.add_argument("--only", nargs="*", help="names of priors")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, about in shipped_priors().items():
            if options.only and name not in options.only:
                continue
            found = card(name, about, options.phantoms, Path(folder))
            print(name, found, flush=True)
            write(options.to / f"{name}.json", found)


if __name__ == "__main__":
    main()
