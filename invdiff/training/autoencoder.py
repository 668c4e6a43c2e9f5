"""Fit a small autoencoder, for a prior in its latent space."""

from __future__ import annotations

import torch

from invdiff.networks.autoencoder import Autoencoder
from invdiff.training.source import Source

__all__ = ["fit_autoencoder"]


def fit_autoencoder(
    source: Source, steps: int, latents: int = 4, width: int = 32, batch: int = 16, seed: int = 0, jitter: float = 0.1
) -> Autoencoder:
    """Minimise ``|decode(z + jitter n) - x|^2 + 1e-3 |z|^2`` with ``z = encode(x)``, by AdamW.

    The noise makes neighbouring latents decode to neighbouring images (a variational autoencoder of fixed variance:
    Kingma and Welling, 2013, arXiv 1312.6114), the second term keeps latents from growing out of the noise. When done,
    latents are scaled to unit variance.
    """
    torch.manual_seed(seed)
    net = Autoencoder(source.channels, latents, width)
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3, betas=(0.9, 0.99), weight_decay=0.0)
    rng = torch.Generator().manual_seed(seed)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 20, 1.05 - step / steps)
        x = source.batch(step, batch).x
        z = net.encode(x)
        noisy = z + jitter * torch.randn(z.shape, generator=rng)
        loss = (net.decode(noisy) - x).square().mean() + 1e-3 * z.square().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
    with torch.no_grad():
        size = net.encode(source.batch(steps, 256).x).std()
        last, first = net.encode[-1], net.decode[0]
        for value in last.parameters():
            value.div_(size)
        next(first.parameters()).mul_(size)  # the weight, not the bias
    return net.eval().requires_grad_(False)
