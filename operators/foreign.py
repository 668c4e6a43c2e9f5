"""Operators of other libraries, taken as they are: deepinv, sigpy, pylops, scipy, and whatever looks like them.

============================  =========================================================================
what it is known by           how it is called
============================  =========================================================================
``A``, ``A_adjoint``          deepinv ``Physics``: batches of torch tensors, noise left out; autograd if nonlinear
``ishape``, ``oshape``, ``H`` sigpy ``Linop``: one numpy array at a time
``matvec``, ``rmatvec``       pylops and scipy ``LinearOperator``, ASTRA ``OpTomo``: one flat numpy array at a time
============================  =========================================================================

None of these libraries is imported here. Whatever goes through numpy is computed on the CPU and brought back to the
tensor's device, and the precision is the library's own.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import DTypeError, InputError, ShapeError
from invdiff.operators.base import LinearOperator, Operator, convert
from invdiff.random import generator

__all__ = ["ForeignLinear", "ForeignNonlinear", "as_operator"]

Map = Callable[[Tensor], Tensor]
_TOLERANCE = 1e-3  # of linearity and adjoint at the door: far above rounding, far below an unmatched pair


@dataclass(frozen=True)
class _Maps:
    """What a foreign object does to batches, what it says of itself, and how it moves (None: it stays)."""

    forward: Map
    adjoint: Map | None
    shape: tuple[int, ...] | None
    domain: str | None
    move: Callable[[Any], _Maps] | None = None


class _Foreign(Operator):
    def __init__(self, maps: _Maps, name: str, shape: tuple[int, ...], domain: str, y: Tensor) -> None:
        self._maps, self._name = maps, name
        self._home = torch.zeros(0, dtype=y.real.dtype, device=y.device)  # says where it lives, and in which precision
        self.domain_shape, self.domain = shape, domain
        self.range_shape, self.range = tuple(y.shape[1:]), _kind(y)

    def _forward(self, x: Tensor) -> Tensor:
        out = self._maps.forward(x).reshape(len(x), *self.range_shape)
        return _as_kind(out, self.range, x)

    def to(self, target: torch.device | str | torch.dtype) -> Operator:
        """Return a copy on a device or in a precision; what lives in numpy stays there and follows its input."""
        out = super().to(target)
        if isinstance(out, _Foreign) and self._maps.move is not None:
            out._maps = self._maps.move(target)
        return out

    def _formula(self) -> str:
        return self._name


class ForeignNonlinear(_Foreign):
    """A foreign forward model that is differentiated by torch."""


class ForeignLinear(_Foreign, LinearOperator):
    """A foreign linear map and its adjoint (that of the real inner product where x is real and y complex)."""

    def _adjoint(self, y: Tensor) -> Tensor:
        if self._maps.adjoint is None:
            raise InputError(f"{self._name} has no adjoint")
        return _as_kind(self._maps.adjoint(y).reshape(len(y), *self.domain_shape), self.domain, y)


def as_operator(
    obj: Any, domain_shape: Sequence[int] | None = None, *, domain: str | None = None, y: Tensor | None = None
) -> Operator:
    """Return an `Operator` for what another library calls one; an `Operator` is returned as it is.

    A few random events are sent through once: linear or not, and whether the adjoint is that of A, is measured.

    Args:
        obj: see the module's table.
        domain_shape: event shape of x, if it differs from the one obj states, or obj states none (deepinv, unless
            y is given). scipy knows lengths only: a vector unless a shape is given here.
        domain: ``"real"`` or ``"complex"``; None: what obj's dtype says, else complex where real x give complex data
            or y is complex.
        y: one event of the data, if at hand; its shape becomes the range's.

    Raises:
        DTypeError: obj is none of those. ShapeError: shapes do not fit.
        InputError: the adjoint is not that of A, or obj fails on an event of the shape given.
    """
    if isinstance(obj, Operator):
        return obj
    maps, name = _maps_of(obj), type(obj).__name__
    if domain not in (None, "real", "complex"):
        raise InputError(f"domain is {domain!r}; it expects 'real' or 'complex'")
    given = tuple(int(n) for n in domain_shape) if domain_shape is not None else None
    if given is not None and maps.shape is not None and math.prod(given) != math.prod(maps.shape):
        raise ShapeError(f"domain_shape is {given}; {name} acts on {math.prod(maps.shape)} numbers, {maps.shape}")
    shape = given or maps.shape or _shape_from_data(maps, name, y)
    kind = domain or maps.domain or ("complex" if y is not None and y.is_complex() else None)
    x = _random(shape, kind or "real", like=y)
    data = _called(maps.forward, x, name)
    if kind is None:
        kind = _kind(data)
        x = _random(shape, kind, like=y)
        data = _called(maps.forward, x, name)
    if y is not None and data[0].numel() == y.numel():
        data = data.reshape(len(data), *y.shape)
    data = _as_kind(data, "complex" if data.is_complex() or (y is not None and y.is_complex()) else "real", x)
    if maps.adjoint is None or not _is_linear(maps.forward, x):
        return ForeignNonlinear(maps, name, shape, kind, data)
    op = ForeignLinear(maps, name, shape, kind, data)
    _check_adjoint(op, x)
    return op


# ---- the libraries ------------------------------------------------------------------------------------------------
def _maps_of(obj: Any) -> _Maps:
    if callable(getattr(obj, "A", None)):
        return _deepinv(obj)
    if hasattr(obj, "ishape") and hasattr(obj, "oshape") and hasattr(obj, "H"):
        return _sigpy(obj)
    if callable(getattr(obj, "matvec", None)) and callable(getattr(obj, "rmatvec", None)):
        return _scipy(obj)
    raise DTypeError(
        f"an operator of type {type(obj).__name__} is not known; expected an invdiff Operator, a deepinv Physics, a"
        " sigpy Linop, or a pylops or scipy LinearOperator (scipy.sparse.linalg.aslinearoperator makes one of a matrix)"
    )


def _deepinv(obj: Any) -> _Maps:
    def move(target: Any) -> _Maps:
        if not isinstance(obj, torch.nn.Module):
            return _deepinv(obj)
        # Module.to(dtype) would drop imaginary parts; _apply with our own rule does not.
        moved = copy.deepcopy(obj)._apply(lambda t: convert(t, target))
        if getattr(moved, "_auto_grad_adjoint_fn", None) is not None:
            moved._auto_grad_adjoint_fn = None  # deepinv's Tomography would go on with the adjoint of the original
        return _deepinv(moved)

    def outside_inference(call: Map) -> Map:
        def run(x: Tensor) -> Tensor:  # some of its adjoints are made by autograd, which inference mode forbids
            grad = torch.is_grad_enabled()
            with torch.inference_mode(False), torch.set_grad_enabled(grad):
                return call(x.clone() if x.is_inference() else x)

        return run

    adjoint = getattr(obj, "A_adjoint", None)
    back = outside_inference(adjoint) if callable(adjoint) else None
    return _Maps(outside_inference(obj.A), back, None, None, move)


def _sigpy(obj: Any) -> _Maps:
    def each(call: Any, shape: tuple[int, ...]) -> Map:
        def run(x: Tensor) -> Tensor:
            rows = [torch.as_tensor(call(row.reshape(shape))) for row in _array(x)]
            return torch.stack(rows).to(x.device)

        return run

    shape, data = tuple(obj.ishape), tuple(obj.oshape)
    return _Maps(each(obj, shape), each(obj.H, data), shape, None)


def _scipy(obj: Any) -> _Maps:
    def each(call: Any, shape: tuple[int, ...]) -> Map:  # not matmat: it hands (n, 1) columns on, which ASTRA refuses
        def run(x: Tensor) -> Tensor:
            rows = [torch.as_tensor(call(row)) for row in _array(x).reshape(len(x), -1)]
            return torch.stack(rows).to(x.device).reshape(len(x), *shape)

        return run

    shape = tuple(int(n) for n in getattr(obj, "dims", obj.shape[1:]))  # pylops says more than lengths
    data = tuple(int(n) for n in getattr(obj, "dimsd", obj.shape[:1]))
    kind = getattr(getattr(obj, "dtype", None), "kind", "O")
    domain = {"c": "complex", "f": "real", "i": "real", "u": "real", "b": "real"}.get(kind)
    return _Maps(each(obj.matvec, data), each(obj.rmatvec, shape), shape, domain)


# ---- what is found at the door ------------------------------------------------------------------------------------
def _shape_from_data(maps: _Maps, name: str, y: Tensor | None) -> tuple[int, ...]:
    if y is None or maps.adjoint is None:
        raise InputError(f"{name} does not say on which shape it acts; give domain_shape, the event shape of x")
    return tuple(_called(maps.adjoint, torch.zeros_like(y)[None], name).shape[1:])


def _called(call: Map, x: Tensor, name: str) -> Tensor:
    try:
        out = call(x)
    except Exception as error:  # noqa: BLE001 - another library may raise anything
        text = " ".join(str(error).split())[:200]
        raise InputError(
            f"{name} fails on {x.dtype} of shape {tuple(x.shape)} ({type(error).__name__}: {text}); give the"
            " domain_shape and domain that it acts on"
        ) from error
    if not isinstance(out, Tensor):
        raise DTypeError(f"{name} gives a {type(out).__name__}; a single tensor of data is expected")
    if out.ndim < 1 or len(out) != len(x):
        raise ShapeError(f"{name} gives shape {tuple(out.shape)} for {len(x)} events; the batch is expected to lead")
    return out.detach()


def _is_linear(forward: Map, x: Tensor) -> bool:
    a, b = forward(x), forward(x.flip(0))
    both = forward(2 * x - x.flip(0))
    return float((both - (2 * a - b)).abs().max()) <= _TOLERANCE * float(2 * a.abs().max() + b.abs().max())


def _check_adjoint(op: ForeignLinear, x: Tensor) -> None:
    """``<A x, A x> = <x, A^H A x>``; with y = A x a wrong scale shows in full."""
    ax = op.forward(x)
    left, right = (ax.abs() ** 2).sum(), (x.conj() * op.adjoint(ax)).sum().real
    if not float((left - right).abs()) <= _TOLERANCE * float(left):
        raise InputError(
            f"the adjoint of {op._name} is not that of its forward: <Ax, Ax> = {float(left):.6g}, <x, A^H Ax> ="
            f" {float(right):.6g}; configure it so that both match (in deepinv: adjoint_via_backprop=True,"
            " normalize=False), or write the operator here"
        )


# ---- numbers ------------------------------------------------------------------------------------------------------
def _random(shape: tuple[int, ...], kind: str, like: Tensor | None) -> Tensor:
    """Two standard normal events in single precision, or in y's precision and on its device."""
    real = torch.float32 if like is None else like.real.dtype if like.is_complex() else like.dtype
    dtype = {torch.float64: torch.complex128}.get(real, torch.complex64) if kind == "complex" else real
    x = torch.randn(2, *shape, generator=generator(0), dtype=dtype)
    return x if like is None else x.to(like.device)


def _kind(x: Tensor) -> str:
    return "complex" if x.is_complex() else "real"


def _as_kind(x: Tensor, kind: str, like: Tensor) -> Tensor:
    """Real or complex, in the precision of `like`."""
    real = like.real.dtype if like.is_complex() else like.dtype
    if kind == "complex":
        return x.to(torch.complex128 if real == torch.float64 else torch.complex64)
    return (x.real if x.is_complex() else x).to(real)


def _array(x: Tensor) -> Any:
    return x.detach().cpu().resolve_conj().contiguous().numpy()
