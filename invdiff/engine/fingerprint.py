"""What tells one measurement's model from another's: a run goes on only under the one it began with."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invdiff.errors import InputError, InvdiffError
from invdiff.noise import Noise
from invdiff.operators.base import Operator

__all__ = ["fingerprint"]


def fingerprint(*things: Any) -> str:
    """Return a hash, 16 hexadecimal digits, of tensors, arrays, operators, noise, numbers, texts, and what holds them.

    Of an operator it is that of the arguments that build it, or of its formula and buffers where it cannot be saved.
    """
    digest = hashlib.sha256()
    for thing in things:
        _add(digest, thing)
    return digest.hexdigest()[:16]


def _add(digest: Any, thing: Any) -> None:
    if isinstance(thing, Tensor):
        array = thing.detach().cpu().resolve_conj().resolve_neg().contiguous()
        flat = (torch.view_as_real(array) if array.is_complex() else array).flatten()
        _begin(digest, f"{array.dtype} {tuple(array.shape)}")
        digest.update(flat.view(torch.uint8).numpy().data)
    elif isinstance(thing, np.ndarray) and not thing.dtype.hasobject:
        _begin(digest, f"{thing.dtype} {thing.shape}")
        digest.update(thing.tobytes())
    elif isinstance(thing, Operator):
        _begin(digest, repr(thing))
        try:
            held: Any = thing.state()
        except InvdiffError:  # it cannot be saved
            held = thing._buffers()
        _add(digest, dict(held))
    elif isinstance(thing, Noise):
        _add(digest, {"noise": type(thing).__name__, **vars(thing)})
    elif isinstance(thing, dict):
        _begin(digest, f"dict {len(thing)}")
        for key in sorted(thing, key=str):
            _add(digest, key)
            _add(digest, thing[key])
    elif isinstance(thing, (list, tuple)):
        _begin(digest, f"{type(thing).__name__} {len(thing)}")
        for part in thing:
            _add(digest, part)
    elif isinstance(thing, (str, int, float, complex, bool, np.generic, type(None))):
        _begin(digest, repr(thing))
    else:
        raise InputError(f"a {type(thing).__qualname__} has no fingerprint; give tensors, arrays, numbers and texts")


def _begin(digest: Any, text: str) -> None:
    """What follows is told apart from what came before by its length."""
    digest.update(f"{len(text)}:{text}".encode())
