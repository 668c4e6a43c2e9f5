"""Does an operator keep the contract? The same checks for our operators and for a plug-in author's.

>>> from invdiff.operators import Matrix
>>> check_operator(Matrix).ok
True

Checks of accuracy report the largest error over events, random pairs and batch sizes, never a mean: signed errors
cancel. Those of single precision are run on ``A.to(torch.float32)``, those of double on ``A.to(torch.float64)``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import DTypeError
from invdiff.operators.base import LinearOperator, Operator
from invdiff.random import generator
from invdiff.validation.conformance import Report, Row, at_most, guarded
from invdiff.validation.operator_contract import CONTRACT
from invdiff.validation.operator_probe import DOUBLE, SINGLE, Probe, apart, inner, size_of

__all__ = ["check_operator"]


def check_operator(target: Any, *, seed: int = 0) -> Report:
    """Run all checks on an Operator class with ``example(rng)``, an instance, or a factory ``() -> operator``.

    A factory may take one argument, the generator. The report's ``ok`` is the verdict, its text the table. The
    operator is applied to some 250 events, so a small instance says the same sooner.

    Raises:
        DTypeError: the target is none of these.
    """
    op = build(target, generator(seed))
    report = Report(repr(op))
    checks: dict[str, Callable[[Probe], Iterator[Row]]] = dict(_NUMERICS)
    checks.update(_LINEAR if op.is_linear else _NONLINEAR)
    checks.update(CONTRACT)
    for index, (name, check) in enumerate(checks.items()):
        # Each check has its own stream, so that adding one does not change what the others see.
        probe = Probe(op, generator(seed, index + 1))
        report.rows += guarded(name, lambda check=check, probe=probe: check(probe))  # type: ignore[misc]
    return report


def build(target: Any, rng: torch.Generator) -> Operator:
    """Return the operator that a class, an instance or a factory stands for. Raises DTypeError."""
    made = target
    if isinstance(target, type) and issubclass(target, Operator):
        made = target.example(rng)
    elif not isinstance(target, (Operator, type)) and callable(target):
        made = target(rng) if _wants_argument(target) else target()
    if not isinstance(made, Operator):
        raise DTypeError(
            f"{target!r} is no Operator class, instance or factory (it gave a {type(made).__name__}); derive from"
            " invdiff.operators.base.LinearOperator or Operator"
        )
    return made


def _wants_argument(factory: Callable[..., Any]) -> bool:
    parameters = inspect.signature(factory).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(p.kind in kinds and p.default is inspect.Parameter.empty for p in parameters)


# ---- every operator ---------------------------------------------------------------------------------------------
def _finite(probe: Probe) -> Iterator[Row]:
    op, x = probe.op, probe.x(SINGLE, 2)
    y = op.forward(x)
    bad = int((~torch.isfinite(torch.view_as_real(y) if y.is_complex() else y)).sum())
    yield Row("finite", bad == 0, bad, 0, "entries of A(x) that are NaN or infinite, x standard normal")


def _batch(probe: Probe) -> Iterator[Row]:
    for dtype, limit in ((SINGLE, 1e-6), (DOUBLE, 1e-12)):
        op, worst = probe.at(dtype), 0.0
        x, y = probe.x(dtype, 5), probe.y(dtype, 5)
        for n in range(len(x)):
            one = op.take([n])
            worst = max(worst, apart(op.forward(x)[n : n + 1], one.forward(x[n : n + 1])))
            if isinstance(op, LinearOperator) and isinstance(one, LinearOperator):
                worst = max(worst, apart(op.adjoint(y)[n : n + 1], one.adjoint(y[n : n + 1])))
                worst = max(worst, apart(op.normal(x)[n : n + 1], one.normal(x[n : n + 1])))
        yield at_most(f"batch = loop, {_name(dtype)}", worst, limit)


_NUMERICS: dict[str, Callable[[Probe], Iterator[Row]]] = {"finite": _finite, "batch = loop": _batch}


# ---- linear operators -------------------------------------------------------------------------------------------
def _adjoint(probe: Probe) -> Iterator[Row]:
    for dtype, limit in ((SINGLE, 1e-6), (DOUBLE, 1e-12)):
        op, worst = probe.linear(dtype), 0.0
        for n in (1, 2, 5):
            for _ in range(3):
                x, y = probe.x(dtype, n), probe.y(dtype, n)
                ax = op.forward(x)
                # y = A x leaves nothing to chance: there <Ax, y> = |Ax|^2, so an error of scale shows in full.
                for data in (y, ax):
                    worst = max(worst, _gap(probe, ax, x, data, op.adjoint(data)))
        yield at_most(f"adjoint, {_name(dtype)}", worst, limit, "|<Ax,y> - <x,A^H y>| / (|Ax| |y|)")


def _gap(probe: Probe, ax: Tensor, x: Tensor, y: Tensor, back: Tensor) -> float:
    gap = inner(ax, y) - inner(x, back)
    gap = gap if probe.complex_linear else gap.real
    scale = size_of(ax) * size_of(y)
    return float((gap.abs() / scale.clamp_min(torch.finfo(scale.dtype).tiny)).max())


def _linear(probe: Probe) -> Iterator[Row]:
    over = "complex" if probe.complex_linear else "real"
    for dtype, limit in ((SINGLE, 1e-5), (DOUBLE, 1e-12)):
        op, worst = probe.linear(dtype), 0.0
        for n in (1, 4):
            for a, b in ((1.7, -0.6), (-1e3, 2.0), (0.3 + 1.1j, -0.8j)):
                if isinstance(a, complex) and not probe.complex_linear:
                    continue
                x, z, y, w = probe.x(dtype, n), probe.x(dtype, n), probe.y(dtype, n), probe.y(dtype, n)
                worst = max(worst, apart(op.forward(a * x + b * z), a * op.forward(x) + b * op.forward(z)))
                worst = max(worst, apart(op.adjoint(a * y + b * w), a * op.adjoint(y) + b * op.adjoint(w)))
        yield at_most(f"linear, {_name(dtype)}", worst, limit, f"A and A^H, {over} scalars")


def _normal(probe: Probe) -> Iterator[Row]:
    for dtype, limit in ((SINGLE, 1e-5), (DOUBLE, 1e-12)):
        op = probe.linear(dtype)
        xs = [probe.x(dtype, n) for n in (1, 2, 5)]
        worst = max(apart(op.normal(x), op.adjoint(op.forward(x))) for x in xs)
        yield at_most(f"normal = adjoint of forward, {_name(dtype)}", worst, limit)


def _autograd(probe: Probe) -> Iterator[Row]:
    for dtype, limit in ((SINGLE, 1e-5), (DOUBLE, 1e-12)):
        op = probe.linear(dtype)
        x, y = probe.x(dtype, 3).requires_grad_(True), probe.y(dtype, 3).requires_grad_(True)
        ahy, ax = op.adjoint(y.detach()), op.forward(x.detach())
        (gx,) = torch.autograd.grad(op.forward(x), x, y.detach())
        (gy,) = torch.autograd.grad(op.adjoint(y), y, x.detach())
        found = {
            "gradient of forward = adjoint": apart(gx, ahy),
            "gradient of adjoint = forward": apart(gy, ax),
            "gradient of normal = normal": apart(
                torch.autograd.grad(op.normal(x), x, x.detach())[0], op.adjoint(op.forward(x.detach()))
            ),
            "vjp = adjoint": apart(op.vjp(x.detach(), y.detach()), ahy),
            "jvp = forward": max(
                apart(op.jvp(torch.zeros_like(x), x.detach()), ax),
                apart(torch.func.jvp(op.forward, (torch.zeros_like(x),), (x.detach(),))[1], ax),
            ),
        }
        for name, value in found.items():
            yield at_most(f"{name}, {_name(dtype)}", value, limit)
    op, n = probe.linear(DOUBLE), probe.batch(2)
    torch.autograd.gradcheck(op.forward, probe.x(DOUBLE, n).requires_grad_(True), fast_mode=True)
    torch.autograd.gradcheck(op.adjoint, probe.y(DOUBLE, n).requires_grad_(True), fast_mode=True)
    yield Row("gradcheck", True, detail="forward and adjoint against finite differences in double precision")


def _norm(probe: Probe) -> Iterator[Row]:
    op = probe.linear(SINGLE)
    declared, found = op.norm(), 0.0
    x = probe.x(SINGLE, 4)
    for _ in range(6):  # a few steps towards the largest singular value, where a random x would fall far short
        ax = op.forward(x)
        found = max(found, float((size_of(ax) / size_of(x)).max()))
        x = op.adjoint(ax)
        x = x / torch.linalg.vector_norm(x).clamp_min(torch.finfo(torch.float32).tiny)
    yield at_most(
        "norm", found / declared if declared else float(found > 0), 1 + 1e-3, "largest |Ax| / |x| over norm()"
    )


def _transpose(probe: Probe) -> Iterator[Row]:
    op = probe.linear(DOUBLE)
    x, y = probe.x(DOUBLE, 2), probe.y(DOUBLE, 2)
    pairs = [
        (op.H.forward(y), op.adjoint(y)),
        (op.H.adjoint(x), op.forward(x)),
        (op.H.H.forward(x), op.forward(x)),
    ]
    yield at_most("A.H", max(apart(a, b) for a, b in pairs), 1e-12, "A.H does what adjoint does, A.H.H what A does")


_LINEAR: dict[str, Callable[[Probe], Iterator[Row]]] = {
    "adjoint": _adjoint,
    "linear": _linear,
    "normal": _normal,
    "gradients": _autograd,
    "norm": _norm,
    "A.H": _transpose,
}


# ---- nonlinear operators ----------------------------------------------------------------------------------------
def _products(probe: Probe) -> Iterator[Row]:
    op, worst, difference = probe.at(DOUBLE), 0.0, 0.0
    for n in (1, 3):
        x, u, v = probe.x(DOUBLE, n), probe.x(DOUBLE, n), probe.y(DOUBLE, n)
        ju, jv = op.jvp(x, u), op.vjp(x, v)
        gap = (inner(ju, v) - inner(u, jv)).real.abs() / (size_of(ju) * size_of(v)).clamp_min(1e-300)
        worst = max(worst, float(gap.max()))
        step = 1e-5  # the best for central differences in double precision: h^2 against 1e-16 / h
        change = (op.forward(x + step * u) - op.forward(x - step * u)) / (2 * step)
        difference = max(difference, apart(ju, change))
    yield at_most("vjp against jvp", worst, 1e-10, "|Re<J u,v> - Re<u,J^H v>| / (|J u| |v|), double precision")
    if not op.exact_derivative:  # declared to be another function's, as of straight-through rounding
        yield Row("jvp against finite differences", None, difference, detail="exact_derivative is false: not judged")
        return
    yield at_most("jvp against finite differences", difference, 1e-6, "double precision")
    torch.autograd.gradcheck(op.forward, probe.x(DOUBLE, probe.batch(2)).requires_grad_(True), fast_mode=True)
    yield Row("gradcheck", True, detail="against finite differences in double precision")


_NONLINEAR: dict[str, Callable[[Probe], Iterator[Row]]] = {"derivatives": _products}


def _name(dtype: torch.dtype) -> str:
    return "single" if dtype == SINGLE else "double"
