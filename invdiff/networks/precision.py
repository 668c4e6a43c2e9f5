"""How much of a network runs at once, and in which precision: what is fast without being seen in the result."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from invdiff.errors import UnknownNameError

__all__ = ["at_once", "autocast", "half_of"]

_PIXELS = 1 << 15  # a network's layers on that many stay in a processor's caches: 1.3 to 1.5 times as fast as all
_NAMES = {"none": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def half_of(name: str, device: torch.device) -> torch.dtype | None:
    """The half precision by name; of "auto", bfloat16 on a processor that multiplies it in hardware, else None.

    Raises:
        UnknownNameError: the name is none of auto, none, bfloat16, float16.
    """
    if name == "auto":
        native = device.type == "cpu" and getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
        return torch.bfloat16 if native else None
    if name not in _NAMES:
        raise UnknownNameError(f"no precision {name!r}; there are auto, {', '.join(_NAMES)}")
    return _NAMES[name]


def autocast(half: torch.dtype | None, device: torch.device) -> AbstractContextManager[Any]:
    """Convolutions and products in that precision; `UNet` keeps its first one, which reads the image, in full.

    Of the shipped priors bfloat16 then costs less than 0.08 dB at every sigma, gains as much at some, and takes half
    the time (benchmarks/results/volume_memory.json).
    """
    return nullcontext() if half is None else torch.autocast(device.type, half)


def at_once(shape: tuple[int, ...], device: torch.device) -> int:
    """How many images of that spatial shape go through a network together."""
    if device.type != "cpu":
        return 1 << 30
    return max(1, _PIXELS // math.prod(shape))
