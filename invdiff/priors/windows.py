"""Local windows composed into a long trajectory, as score-based data assimilation does it.

A state depends, given its neighbours in time, on nothing else; so the score of a whole trajectory at state i is close
to that of a short window about i. Inside, state i is denoised by the window centred at it; the first and last ones by
the first and last window. All windows go through the network at once, as a batch.

Source: Rozet and Louppe, 2023, arXiv 2306.10574, section 3.1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.priors.base import Prior

__all__ = ["ComposedWindows"]


class ComposedWindows(Prior):
    """Trajectories ``(length, *state)`` from a prior of windows ``(2k + 1, *state)``.

    The approximation is exact at high and at low noise and for windows as long as the memory of the noisy trajectory;
    with `GaussianPrior` windows its error can be measured (`tests/priors/test_windows.py`).

    Args:
        window: the prior of windows; its events have an odd first axis.
        length: states of a trajectory, at least as many as a window has.

    Raises:
        InputError: the window is even, of unknown length, or longer than the trajectory.
    """

    sample_shape: tuple[int, ...]

    def __init__(self, window: Prior, length: int) -> None:
        if window.sample_shape is None or window.sample_shape[0] % 2 == 0 or window.sample_shape[0] > length:
            raise InputError(
                f"ComposedWindows got windows {window.sample_shape} for {length} states; expected an odd number of"
                " states, no more than that"
            )
        self.window, self.size = window, window.sample_shape[0]
        self.sample_shape = (length, *window.sample_shape[1:])
        self.domain, self.scale, self.is_network = window.domain, window.scale, window.is_network
        self.sigma_min, self.sigma_max = window.sigma_min, window.sigma_max

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the composed ``E[x0 | x]``, shape ``(N, length, *state)``."""
        count, half = x.shape[1] - self.size + 1, self.size // 2
        cut = x.unfold(1, self.size, 1).movedim(-1, 2)  # (N, windows, 2k + 1, *state)
        level = sigma.expand(len(x)).repeat_interleave(count)
        seen = self.window.denoise(cut.flatten(0, 1).contiguous(), level).reshape(cut.shape)
        return torch.cat([seen[:, 0, :half], seen[:, :, half], seen[:, -1, half + 1 :]], 1)
