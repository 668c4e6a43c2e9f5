"""Steered sampling: any differentiable penalty on the image tilts the prior, or a posterior."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from invdiff.errors import ShapeError
from invdiff.guidance.base import Guidance, _leaf, spread2
from invdiff.measurement import Measurement
from invdiff.priors.base import Prior

__all__ = ["Steered"]


class Steered(Guidance):
    """``x0 - V grad c(x0)``: draws of ``p(x) exp(-c(x))``, or of ``p(x | y) exp(-c(x))`` with `base`, c a penalty.

    ``h(x) = E[exp(-c(x0)) | x]`` is replaced by ``exp(-c(E[x0|x]))``; with ``V = Cov[x0|x] = sigma^2 J`` this is its
    gradient through the network, exact for a linear penalty under a Gaussian prior. Without the network's gradient V
    is ``r^2 = v sigma^2/(v + sigma^2)``, v the prior's variance. A penalty whose curvature times V exceeds 2
    overshoots: divide it by what it should weigh, as one does with a noise variance.

    It needs more than a prior and a measurement::

        Guided(partial(Steered, penalty=lambda x: x.square().flatten(1).sum(1), base=MMPS), DDIM(1.0), nfe=100)

    Args:
        penalty: c, from images ``(N, *event)`` to ``(N,)`` real numbers, in the prior's unit.
        base: guidance that brings in the data, ``(prior, measurement) -> Guidance``; None leaves them out.
        network_gradient: whether V is the denoiser's own. Beside a base it costs one more evaluation a step, for which
            `Guided` takes half as many steps.

    Raises:
        ShapeError: the penalty does not return one number per image.

    Source: Song et al., 2023, ICML, "Loss-guided diffusion models for plug-and-play controllable generation", with
    one sample of x0; without the network's gradient as in Yu et al., 2023 (FreeDoM), arXiv 2303.09833.
    """

    def __init__(
        self,
        prior: Prior,
        measurement: Measurement,
        penalty: Callable[[Tensor], Tensor],
        base: Callable[[Prior, Measurement], Guidance] | None = None,
        network_gradient: bool = True,
    ) -> None:
        super().__init__(prior, measurement)
        self.penalty, self.network_gradient = penalty, network_gradient
        self.base = base(prior, measurement) if base is not None else None
        self.uses_vjp = network_gradient or (self.base is not None and self.base.uses_vjp)
        if self.base is not None:
            self.carries = self.base.carries
            self.evaluations = self.base.evaluations + network_gradient

    def begin(self) -> None:
        """Forget whatever the base carries, and count its work with ours."""
        if self.base is not None:
            self.base.counts = self.counts
            self.base.begin()

    def carried(self) -> tuple[Tensor, ...]:
        """What the base carries."""
        return () if self.base is None else self.base.carried()

    def restore(self, carried: tuple[Tensor, ...]) -> None:
        """Give it back to the base."""
        if self.base is not None:
            self.base.restore(carried)

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """Return the steered denoised image."""
        if self.network_gradient:
            x0, vjp = self.denoise_with_vjp(x, sigma)
            x0 = x0 if self.base is None else self.base(x, sigma)
            return x0 - sigma**2 * vjp(self._slope(x0))
        x0 = self.denoise(x, sigma) if self.base is None else self.base(x, sigma)
        return x0 - spread2(self.prior, sigma) * self._slope(x0)

    def _slope(self, x0: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            leaf = _leaf(x0)
            value = self.penalty(leaf)
            if value.shape != x0.shape[:1]:
                raise ShapeError(
                    f"the penalty returned shape {tuple(value.shape)} for {len(x0)} images; it expects one number each"
                )
            (slope,) = torch.autograd.grad(value.sum(), leaf)
        return slope
