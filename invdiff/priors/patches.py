"""A mixture of Gaussians over patches, as a prior of whole images of any size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.priors.base import Prior
from invdiff.priors.mixture import GaussianMixturePrior
from invdiff.priors.mixture_fit import fit_mixture

__all__ = ["PatchMixturePrior", "cut"]

_CHUNK = 4096  # patches at a time


class PatchMixturePrior(Prior):
    """Every k x k patch of an image ``(1, H, W)``, wherever it lies, is a draw of one Gaussian mixture.

    The denoiser takes each of the overlapping patches on its own, exactly: the posterior mean of a patch of the mixture
    given its noisy pixels. A pixel is the plain average of what the patches that hold it say of it (k^2 of them, fewer
    at the rim). For one tiling of the plane by independent patches the result would be the exact posterior mean; the
    average over tilings is the exact denoiser of no prior of images, though a good one, and its Jacobian is symmetric
    away from the rim. Zoran and Weiss, ICCV 2011 (whose EPLL takes the likeliest component of each patch alone).

    Args:
        mixture: over flattened patches of k^2 pixels, real or complex.

    Raises InputError where the mixture's size is no square.
    """

    def __init__(self, mixture: GaussianMixturePrior) -> None:
        size = mixture.sample_shape[0]
        side = round(size**0.5)
        if mixture.sample_shape != (side * side,):
            raise InputError(f"PatchMixturePrior got a mixture over {mixture.sample_shape}; expected k^2 pixels")
        self.mixture, self.side, self.domain = mixture, side, mixture.domain
        self.scale, self.sigma_min, self.sigma_max = mixture.scale, mixture.sigma_min, 40 * mixture.scale

    @classmethod
    def fit(
        cls,
        images: Tensor,
        side: int = 6,
        components: int = 20,
        samples: int = 20000,
        rng: torch.Generator | None = None,
        iterations: int = 30,
    ) -> PatchMixturePrior:
        """Fit to random patches of images ``(n, 1, H, W)``, real or complex, by EM (`fit_mixture`).

        Raises InputError, ShapeError for too few or too small images.
        """
        rng = torch.Generator().manual_seed(0) if rng is None else rng
        patches = cut(images, side)
        chosen = torch.randint(patches.shape[0], (samples,), generator=rng)
        return cls(fit_mixture(patches[chosen], components, rng, iterations))

    def check(self, shape: tuple[int, ...], domain: str) -> None:
        """Accept ``(C, H, W)`` not smaller than a patch."""
        super().check(shape, domain)
        if len(shape) != 3 or min(shape[1:]) < self.side:
            raise ShapeError(f"the operator's x has shape {shape}; this prior is for images of {self.side} pixels up")

    def describe(self) -> dict[str, Any]:
        """The mixture's size."""
        return {"prior": type(self).__name__, "components": len(self.mixture.weights), "patch": self.side}

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the average of the patches' posterior means for x ``(N, C, H, W)``, channels alike and apart."""
        n, channels, height, width = x.shape
        rows, columns = height - self.side + 1, width - self.side + 1
        flat = cut(x, self.side)
        levels = sigma.to(x.real.dtype).expand(n).repeat_interleave(channels * rows * columns)
        parts = [self.mixture.denoise(p, s) for p, s in zip(flat.split(_CHUNK), levels.split(_CHUNK), strict=True)]
        patches = torch.cat(parts).reshape(n, channels, rows, columns, self.side, self.side)
        total, count = torch.zeros_like(x), torch.zeros(height, width, dtype=x.real.dtype, device=x.device)
        for i in range(self.side):
            for j in range(self.side):
                total[..., i : i + rows, j : j + columns] += patches[..., i, j]
                count[i : i + rows, j : j + columns] += 1
        return total / count


def cut(images: Tensor, side: int) -> Tensor:
    """All overlapping patches of images ``(N, C, H, W)`` as rows ``(N C rows columns, side^2)``."""
    if images.ndim != 4 or min(images.shape[2:]) < side:
        raise ShapeError(f"images {tuple(images.shape)} have no patches of {side} pixels; expected (N, C, H, W)")
    return images.unfold(2, side, 1).unfold(3, side, 1).reshape(-1, side * side)
