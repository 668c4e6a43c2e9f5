"""The operator contract and its algebra.

An operator maps a batch of events to a batch of events, ``(N, *domain_shape) -> (N, *range_shape)``. A linear one
also has an adjoint under the (complex) inner product ``<a, b> = sum conj(a) b``; its real part is meant where the
domain is real and the range complex. Subclasses write `_forward` and `_adjoint` as plain tensor functions; shape
and dtype checks and automatic differentiation (the backward of `forward` is `adjoint`, and the reverse) are written
here, once; what `A @ B`, `A + B`, `c * A`, `A.H` and `A[rows]` return is in `invdiff.operators.algebra`.

Closed forms. Where A^H A or A A^H is diagonal (masks, unitary transforms, sampling), or diagonal in a known basis
(periodic blur, separable resampling), ``A^H (A A^H + s)^-1 v`` needs no iteration: `damped_inverse`. A proximal step
of the data, ``argmin_x |y - A x|^2 + s |x - z|^2``, is ``z + damped_inverse(y - A z, s)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

import torch
from torch import Tensor

from invdiff.errors import DTypeError, InputError, ShapeError
from invdiff.linalg import lanczos
from invdiff.operators.autograd import linear

__all__ = ["LinearOperator", "Operator", "convert"]

_COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}


class Operator:
    """A forward model ``y = A(x)``; nonlinear unless it is a `LinearOperator`.

    Attributes set by the subclass:

    - ``domain_shape``, ``range_shape``: event shapes of x and y (no batch axis).
    - ``domain``, ``range``: ``"real"`` or ``"complex"``.
    - ``range_mask``: boolean tensor that broadcasts to ``range_shape``, true where a datum exists; None if
      everywhere. Outside it `forward` returns zeros, which are neither data nor noise.
    - ``support``: boolean tensor that broadcasts to ``domain_shape``, or with several problems to the batch; x is known
      to be zero where it is false (no coil sees it, say). None if nothing of the kind is known.
    - ``exact_derivative``: false where `jvp` and `vjp` are those of a stand-in (straight-through rounding).
    - ``n_problems``: how many independent problems the operator holds (each with its own coil maps, say). With 1 it
      applies to any N; with P > 1 only to N = P, and `take` selects some of them.
    """

    is_linear = False
    _loose = False  # a formula that needs parentheses as a factor of a product
    exact_derivative = True
    domain_shape: tuple[int, ...]
    range_shape: tuple[int, ...]
    domain: str = "real"
    range: str = "real"
    range_mask: Tensor | None = None
    support: Tensor | None = None
    n_problems: int = 1

    # ---- what a subclass writes -------------------------------------------------------------------------------
    def _forward(self, x: Tensor) -> Tensor:
        raise TypeError(f"{type(self).__name__} does not define _forward(x)")

    def _buffers(self) -> Mapping[str, Tensor | Operator | None]:
        """Tensors and operators held, by attribute name: `to` moves and converts these."""
        return {
            name: value for name, value in vars(self).items() if isinstance(value, (Tensor, Operator)) or value is None
        }

    @classmethod
    def example(cls, rng: torch.Generator) -> Operator:
        """Build a small instance for the conformance suite."""
        raise InputError(f"{cls.__name__} has no example(rng); write one so that its conformance can be checked")

    def state(self) -> dict[str, Any]:
        """Return the constructor's arguments as tensors, numbers, strings and operators, so it can be saved."""
        raise InputError(f"{type(self).__name__} cannot be saved: it does not define state()")

    # ---- what a user calls ------------------------------------------------------------------------------------
    def forward(self, x: Tensor) -> Tensor:
        """Apply the operator to ``x`` of shape ``(N, *domain_shape)``.

        Raises:
            ShapeError: the shape of x is not ``(N, *domain_shape)``.
            DTypeError: x is real where the domain is complex, or the reverse, or not floating point.
        """
        self._check(x, self.domain_shape, self.domain, "x", "forward")
        return self._forward(x)

    def __call__(self, x: Tensor) -> Tensor:
        return self.forward(x)

    def vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """Vector-Jacobian product ``J(x)^H v``, shape ``(N, *domain_shape)``."""
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            (out,) = torch.autograd.grad(self.forward(x), x, v)
        return out

    def jvp(self, x: Tensor, u: Tensor) -> Tensor:
        """Jacobian-vector product ``J(x) u``, shape ``(N, *range_shape)``."""
        return torch.func.jvp(self.forward, (x,), (u,))[1]

    def take(self, problems: Sequence[int]) -> Operator:
        """Return the operator of the given problems, in that order; itself where all problems share it."""
        if self.n_problems == 1:
            return self
        raise InputError(f"{type(self).__name__} holds {self.n_problems} problems but does not define take()")

    def to(self, target: torch.device | str | torch.dtype) -> Operator:
        """Return a copy on a device or in a precision (``torch.float64`` makes complex buffers complex128)."""
        import copy

        out = copy.copy(self)
        for name, value in self._buffers().items():
            if isinstance(value, Operator):
                setattr(out, name, value.to(target))
            elif isinstance(value, Tensor):
                setattr(out, name, convert(value, target))
        out._refresh()
        return out

    def _refresh(self) -> None:
        """Drop whatever was derived from the buffers (called on the copy that `to` makes)."""

    @property
    def size(self) -> int:
        """Number of data of one problem: complex entries counted once, unmeasured entries not at all.

        Of problems whose masks differ in number it is the mean, rounded; `sizes` tells each.
        """
        return round(sum(self.sizes) / len(self.sizes))

    @property
    def sizes(self) -> list[int]:
        """`size` of each problem; one number where they share their mask."""
        mask = self.whole_mask()
        return [math.prod(self.range_shape)] if mask is None else [int(n) for n in mask.flatten(1).sum(1)]

    def whole_mask(self) -> Tensor | None:
        """`range_mask` of shape ``(problems or 1, *range_shape)``."""
        if self.range_mask is None:
            return None
        several = self.range_mask.ndim > len(self.range_shape)
        return self.range_mask.expand(len(self.range_mask) if several else 1, *self.range_shape)

    def __repr__(self) -> str:
        kinds = {"real": "R", "complex": "C"}
        shapes = [
            f"{kinds[k]}^({'x'.join(map(str, s))})"
            for k, s in ((self.domain, self.domain_shape), (self.range, self.range_shape))
        ]
        return f"{word(self)}[{shapes[0]} -> {shapes[1]}]"

    def _formula(self) -> str:
        """How the operator is written in a product or sum; one word unless it is made of others."""
        return type(self).__name__

    # ---- algebra ----------------------------------------------------------------------------------------------
    def __matmul__(self, other: Operator) -> Operator:
        if not isinstance(other, Operator):
            return NotImplemented
        from invdiff.operators.algebra import compose

        return compose(self, other)

    # ---- checks -----------------------------------------------------------------------------------------------
    def _check(self, x: Tensor, shape: tuple[int, ...], kind: str, name: str, method: str) -> None:
        if not isinstance(x, Tensor):
            raise DTypeError(f"{self!r}.{method} got {name} of type {type(x).__name__}; it expects a torch.Tensor")
        if tuple(x.shape[1:]) != shape or x.ndim != len(shape) + 1:
            raise ShapeError(
                f"{self!r}.{method} got {name} of shape {tuple(x.shape)}; it expects (N, {', '.join(map(str, shape))})"
            )
        if self.n_problems > 1 and x.shape[0] != self.n_problems:
            raise ShapeError(
                f"{self!r}.{method} got {x.shape[0]} events; the operator holds {self.n_problems} problems, one event"
                " each: select with take(problems)"
            )
        if kind == "complex" and not x.is_complex():
            raise DTypeError(
                f"{self!r}.{method} got real {name} ({x.dtype}); it expects complex: use {name}.to(complex64)"
            )
        if kind == "real" and not x.is_floating_point():
            raise DTypeError(f"{self!r}.{method} got {name} of {x.dtype}; it expects real floating point")


def word(op: Operator) -> str:
    """An operator's formula, in parentheses where a postfix would otherwise belong to its last factor only."""
    formula = op._formula()
    closed = formula[0] + formula[-1] == "[]" or (" " not in formula and formula[0] != "-")
    return formula if closed else f"({formula})"


def _positive(shift: float) -> float:
    if not (shift > 0 and math.isfinite(shift)):
        raise InputError(f"shift is {shift}; the closed forms need a finite number above 0")
    return float(shift)


def _of(energy: float | Tensor, x: Tensor) -> float | Tensor:
    """An energy in the precision of x."""
    return energy if isinstance(energy, float) else energy.to(x.real.dtype)


def convert(value: Tensor, target: torch.device | str | torch.dtype) -> Tensor:
    """A tensor on a device or in a precision: float32 or float64, also for complex ones; others raise DTypeError."""
    if not isinstance(target, torch.dtype):
        return value.to(torch.device(target))
    if target not in _COMPLEX:
        raise DTypeError(f"a precision of {target} was asked for; expected torch.float32 or torch.float64")
    if value.is_complex():
        return value.to(_COMPLEX[target])
    return value.to(target) if value.is_floating_point() else value


class LinearOperator(Operator):
    """A linear forward model: subclasses write `_forward(x)` and `_adjoint(y)` (and `_normal(x)` where cheaper)."""

    is_linear = True

    def _adjoint(self, y: Tensor) -> Tensor:
        raise TypeError(f"{type(self).__name__} does not define _adjoint(y)")

    def _normal(self, x: Tensor) -> Tensor:
        columns = self.column_energy()
        return self._adjoint(self._forward(x)) if columns is None else _of(columns, x) * x

    def column_energy(self) -> float | Tensor | None:
        """``A^H A`` where it is diagonal: a number, or a tensor that broadcasts to the domain; None where it is not."""
        return None

    def row_energy(self) -> float | Tensor | None:
        """``A A^H`` where it is diagonal: a number, or a tensor that broadcasts to the range; None where it is not."""
        return None

    def _damped(self, shift: float) -> Callable[[Tensor], Tensor] | None:
        """``v -> A^H (A A^H + shift)^-1 v`` where it has a closed form, None where it has not."""
        columns, rows = self.column_energy(), self.row_energy()
        if columns is not None:
            return lambda v: self._adjoint(v) / (_of(columns, v) + shift)
        if rows is not None:
            return lambda v: self._adjoint(v / (_of(rows, v) + shift))
        return None

    def _damped_after(self, inner: LinearOperator, shift: float) -> Callable[[Tensor], Tensor] | None:
        """The same for the product ``self @ inner``, where only the two together have a closed form."""
        del inner, shift
        return None

    def forward(self, x: Tensor) -> Tensor:
        """Return ``A x``, shape ``(N, *range_shape)``. Raises ShapeError, DTypeError."""
        self._check(x, self.domain_shape, self.domain, "x", "forward")
        return linear(x, self._forward, self._adjoint)

    def adjoint(self, y: Tensor) -> Tensor:
        """Return ``A^H y``, shape ``(N, *domain_shape)``. Raises ShapeError, DTypeError."""
        self._check(y, self.range_shape, self.range, "y", "adjoint")
        return linear(y, self._adjoint, self._forward)

    def normal(self, x: Tensor) -> Tensor:
        """Return ``A^H A x``, shape ``(N, *domain_shape)``. Raises ShapeError, DTypeError."""
        self._check(x, self.domain_shape, self.domain, "x", "normal")
        return linear(x, self._normal, self._normal)

    def damped_inverse(self, v: Tensor, shift: float) -> Tensor | None:
        """Return ``A^H (A A^H + s)^-1 v = (A^H A + s)^-1 A^H v``, or None where there is no closed form.

        It is what proximal and pseudo-inverse-guided steps need, and keeps its precision for small s where
        ``(A^H A + s)^-1`` of an image would not.

        Args:
            v: data, ``(N, *range_shape)``.
            shift: s > 0, in the unit of ``A^H A``.

        Raises:
            ShapeError, DTypeError: v does not fit. InputError: s is not above 0.
        """
        self._check(v, self.range_shape, self.range, "v", "damped_inverse")
        solve = self._damped(_positive(shift))
        return None if solve is None else solve(v)

    @property
    def has_damped_inverse(self) -> bool:
        """Whether `damped_inverse` and `ridge` have a closed form here."""
        return self._damped(1.0) is not None

    def ridge(self, z: Tensor, shift: float) -> Tensor | None:
        """Return ``(A^H A + s)^-1 z`` for z ``(N, *domain_shape)``, or None where there is no closed form.

        Raises:
            ShapeError, DTypeError: z does not fit. InputError: s is not above 0.
        """
        self._check(z, self.domain_shape, self.domain, "z", "ridge")
        columns, solve = self.column_energy(), self._damped(_positive(shift))
        if columns is not None:
            return z / (_of(columns, z) + shift)
        return None if solve is None else (z - solve(self._forward(z))) / shift

    def gram(self) -> LinearOperator:
        """Return ``A^H A`` as an operator, simplified where A^H A is known to be diagonal; so does ``A.H @ A``."""
        from invdiff.operators.algebra import Normal
        from invdiff.operators.diagonal import Diagonal
        from invdiff.operators.matrix import Identity

        columns = self.column_energy()
        if isinstance(columns, Tensor) and self.n_problems == 1:
            return Diagonal(columns, self.domain_shape, self.domain)
        if not isinstance(columns, float):
            return Normal(self)
        identity = Identity(self.domain_shape, self.domain)
        return identity if columns == 1 else columns * identity

    def vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return ``A^H v`` (x is not needed)."""
        del x
        return self.adjoint(v)

    def jvp(self, x: Tensor, u: Tensor) -> Tensor:
        """Return ``A u`` (x is not needed)."""
        del x
        return self.forward(u)

    @property
    def H(self) -> LinearOperator:  # noqa: N802 - the field's name for the adjoint
        """The adjoint as an operator; ``A.H.H`` is ``A``."""
        from invdiff.operators.algebra import Adjoint

        return Adjoint(self)

    def norm(self, iterations: int = 30, seed: int = 0) -> float:
        """Largest singular value: exact where A^H A or A A^H is diagonal, else by Lanczos on A^H A from below."""
        energy = self.column_energy()
        energy = self.row_energy() if energy is None else energy
        if energy is not None:
            return math.sqrt(float(torch.as_tensor(energy).max()))
        rng = torch.Generator().manual_seed(seed)
        probe = next((b for b in self._all_tensors() if b.is_floating_point() or b.is_complex()), torch.zeros(1))
        dtype = probe.real.dtype if probe.is_complex() else probe.dtype
        dtype = _COMPLEX[dtype] if self.domain == "complex" else dtype
        v = torch.randn(self.n_problems, *self.domain_shape, generator=rng, dtype=dtype).to(probe.device)
        with torch.no_grad():
            return math.sqrt(max(lanczos(self.normal, v, iterations=iterations), 0.0))

    def _all_tensors(self) -> list[Tensor]:
        found: list[Tensor] = []
        for value in self._buffers().values():
            if isinstance(value, Tensor):
                found.append(value)
            elif isinstance(value, LinearOperator):
                found.extend(value._all_tensors())
        return found

    @overload
    def __matmul__(self, other: LinearOperator) -> LinearOperator: ...

    @overload
    def __matmul__(self, other: Operator) -> Operator: ...

    def __matmul__(self, other: Operator) -> Operator:
        return super().__matmul__(other)

    def __add__(self, other: LinearOperator) -> LinearOperator:
        from invdiff.operators.algebra import Sum

        return Sum(self, other) if isinstance(other, LinearOperator) else NotImplemented

    def __mul__(self, scalar: complex) -> LinearOperator:
        from invdiff.operators.algebra import Scale

        return Scale(self, scalar) if isinstance(scalar, (int, float, complex)) else NotImplemented

    __rmul__ = __mul__

    def __truediv__(self, scalar: complex) -> LinearOperator:
        return self * (1 / scalar) if isinstance(scalar, (int, float, complex)) else NotImplemented

    def __neg__(self) -> LinearOperator:
        return self * -1.0

    def __sub__(self, other: LinearOperator) -> LinearOperator:
        return self + (-other)

    def __getitem__(self, rows: Any) -> LinearOperator:
        """Keep some of the data: an index along the first axis of the range, or a boolean mask over it."""
        from invdiff.operators.algebra import Restrict

        return Restrict(self, rows)
