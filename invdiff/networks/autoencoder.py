"""A small convolutional autoencoder: images to latents of a quarter of the side, and back."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["Autoencoder"]


class Autoencoder(nn.Module):
    """Encode ``(N, channels, H, W)`` to ``(N, latents, H/4, W/4)`` and decode; H and W divisible by 4.

    Args:
        channels: of the image. latents: of its code. width: of the inner layers.
    """

    def __init__(self, channels: int = 1, latents: int = 4, width: int = 32) -> None:
        super().__init__()

        def layers(*parts: nn.Module) -> nn.Sequential:
            return nn.Sequential(*parts)

        self.encode = layers(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(2 * width, latents, 3, padding=1),
        )
        self.decode = layers(
            nn.Conv2d(latents, 2 * width, 3, padding=1),
            nn.SiLU(),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.ConvTranspose2d(width, width, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the image after encoding and decoding."""
        decoded: Tensor = self.decode(self.encode(x))
        return decoded
