"""What an operator promises besides numbers: its inputs and itself untouched, dtypes, devices, masks, errors, files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import DTypeError, InputError, ShapeError
from invdiff.operators.base import LinearOperator, Operator
from invdiff.validation.conformance import Row, at_most
from invdiff.validation.operator_probe import DOUBLE, SINGLE, Probe, apart, kind

__all__ = ["CONTRACT"]


def _calls(op: Operator, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    out = {"forward": op.forward(x)}
    if isinstance(op, LinearOperator):
        out |= {"adjoint": op.adjoint(y), "normal": op.normal(x)}
    return out


def _untouched(probe: Probe) -> Iterator[Row]:
    op = probe.at(SINGLE)
    x, y = probe.x(SINGLE, 3), probe.y(SINGLE, 3)
    x0, y0 = x.clone(), y.clone()
    before = _snapshot(op)
    first, second = _calls(op, x, y), _calls(op, x, y)
    op.forward(probe.x(SINGLE, 2))
    changed = _changes(before, _snapshot(op))
    yield Row("state unchanged", not changed, detail=f"changed: {', '.join(changed)}" if changed else "")
    yield Row("input unchanged", torch.equal(x, x0) and torch.equal(y, y0))
    unequal = [name for name in first if not torch.equal(first[name], second[name])]
    yield Row("same input, same bits", not unequal, detail=", ".join(unequal))


def _layout(probe: Probe) -> Iterator[Row]:
    op, worst = probe.at(DOUBLE), 0.0
    x, y = probe.x(DOUBLE, 3), probe.y(DOUBLE, 3)
    plain = _calls(op, x, y)
    # The last axis first in memory, and a conjugation that torch has only noted down: both are equal tensors.
    strided = _calls(op, x.movedim(-1, 0).contiguous().movedim(0, -1), y.movedim(-1, 0).contiguous().movedim(0, -1))
    lazy = _calls(op, x.conj().resolve_conj().conj(), y.conj().resolve_conj().conj())
    for name, value in plain.items():
        worst = max(worst, apart(strided[name], value), apart(lazy[name], value))
    yield at_most("any memory layout", worst, 1e-12, "strided and lazily conjugated input, double precision")


def _dtypes(probe: Probe) -> Iterator[Row]:
    wrong = []
    for dtype in (SINGLE, DOUBLE):
        op = probe.at(dtype)
        kinds = {"forward": op.range, "adjoint": op.domain, "normal": op.domain}
        for name, value in _calls(op, probe.x(dtype, 2), probe.y(dtype, 2)).items():
            if value.dtype != kind(dtype, kinds[name]):
                wrong.append(f"{name} gives {value.dtype} where {kind(dtype, kinds[name])} is expected")
    yield Row("dtype kept", not wrong, detail="; ".join(wrong))


def _devices(probe: Probe) -> Iterator[Row]:
    x, y = probe.x(SINGLE, 2), probe.y(SINGLE, 2)
    reference = _calls(probe.at(SINGLE), x, y)
    names = ["cpu"]
    names += ["cuda"] if torch.cuda.is_available() else []
    names += ["mps"] if torch.backends.mps.is_available() else []
    for device in names:
        found = _calls(probe.at(SINGLE).to(device), x.to(device), y.to(device))
        placed = all(value.device.type == device for value in found.values())
        worst = max(apart(found[name].cpu(), value) for name, value in reference.items())
        yield Row(f"device {device}", placed and worst <= 1e-5, worst, 1e-5, "" if placed else "output elsewhere")


def _mask(probe: Probe) -> Iterator[Row]:
    op = probe.at(DOUBLE)
    if op.range_mask is None:
        yield Row("range mask", None, detail="none: every entry of y is a datum")
        return
    x, y = probe.x(DOUBLE, 3), probe.y(DOUBLE, 3)
    outside = ~torch.broadcast_to(op.range_mask, (len(y), *op.range_shape))
    leaked = float((op.forward(x) * outside).abs().max())
    yield at_most("forward is 0 outside the mask", leaked, 0.0)
    if isinstance(op, LinearOperator):
        heard = apart(op.adjoint(y), op.adjoint(y * ~outside))
        yield at_most("adjoint ignores what is outside the mask", heard, 1e-14)
    counts = [(op.take([i]).size, int((~outside[i]).sum())) for i in range(op.n_problems)]
    yield Row("size counts the mask", all(a == b for a, b in counts), detail=f"(size, measured): {counts}")


def _support(probe: Probe) -> Iterator[Row]:
    op = probe.at(DOUBLE)
    if op.support is None:
        yield Row("support", None, detail="none: every entry of x may differ from 0")
        return
    x = probe.x(DOUBLE, 3 if op.n_problems == 1 else op.n_problems)
    unseen = x * ~op.support
    yield at_most("forward does not see x outside the support", float(op.forward(unseen).abs().max()), 0.0)


def _problems(probe: Probe) -> Iterator[Row]:
    op, count = probe.at(DOUBLE), probe.op.n_problems
    order = [count - 1, 0, 0]
    if count == 1:
        x = probe.x(DOUBLE, 3)
        worst = apart(op.take([0, 0, 0]).forward(x), op.forward(x))
    else:
        x = probe.x(DOUBLE, count)
        worst = apart(op.take(order).forward(x[order]), op.forward(x)[order])
    yield at_most("take", worst, 1e-12, f"{count} problem{'s' if count > 1 else ''}")


def _errors(probe: Probe) -> Iterator[Row]:
    op = probe.at(SINGLE)
    ends: list[tuple[str, Callable[[Tensor], Tensor], Tensor, str]] = [
        ("forward", op.forward, probe.x(SINGLE, 2), op.domain)
    ]
    if isinstance(op, LinearOperator):
        ends += [
            ("adjoint", op.adjoint, probe.y(SINGLE, 2), op.range),
            ("normal", op.normal, probe.x(SINGLE, 2), op.domain),
        ]
    for method, call, good, domain in ends:
        wrong = []
        for what, bad, expected in _misfits(good, domain, op.n_problems):
            found = _raised(call, bad)
            if not isinstance(found, expected):
                name = "nothing" if found is None else type(found).__name__
                wrong.append(f"{what} raises {name}, not {expected.__name__}")
        yield Row(f"{method} refuses what does not fit", not wrong, detail="; ".join(wrong))


def _misfits(good: Tensor, domain: str, problems: int) -> Iterator[tuple[str, Any, type[Exception]]]:
    yield "no batch axis", good[0], ShapeError
    yield "an axis too many", good[..., None], ShapeError
    for axis in range(1, good.ndim):
        length = good.shape[axis]
        yield f"axis {axis} one longer", torch.cat([good, good.narrow(axis, 0, 1)], axis), ShapeError
        if length > 1:
            yield f"axis {axis} of length 1", good.narrow(axis, 0, 1), ShapeError  # must not be broadcast
    if problems > 1:
        yield "one event for several problems", good[:1], ShapeError
    if domain == "complex":
        yield "real numbers", good.real.contiguous(), DTypeError
    else:
        yield "complex numbers", torch.complex(good, good), DTypeError
    yield "integers", torch.ones(good.shape, dtype=torch.int64), DTypeError
    yield "a numpy array", good.numpy(), DTypeError


def _raised(call: Callable[[Any], Tensor], argument: Any) -> Exception | None:
    try:
        call(argument)
    except Exception as error:  # noqa: BLE001 - which one is the question
        return error
    return None


def _repr(probe: Probe) -> Iterator[Row]:
    text = repr(probe.op)
    yield Row("repr", bool(text) and "\n" not in text and " object at 0x" not in text, detail=text[:80])


def _file(probe: Probe) -> Iterator[Row]:
    from invdiff.measurement import Measurement
    from invdiff.noise import Gaussian

    op, x = probe.at(SINGLE), probe.x(SINGLE, 1)
    y = op.forward(x)
    batched = op.n_problems > 1
    measurement = Measurement(y if batched else y[0], op, Gaussian(1.0), batched=batched)
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = measurement.save(Path(folder) / "measurement.h5")
        except InputError as error:  # an operator need not be savable, as long as it says so
            yield Row("saved and loaded", None, detail=" ".join(str(error).split()))
            return
        loaded = Measurement.load(path).operator
    same = repr(loaded) == repr(op) and torch.equal(loaded.forward(x), y)
    yield Row("saved and loaded", same, detail="" if same else f"came back as {loaded!r}, or with other values")


def _snapshot(value: Any) -> Any:
    """A copy of everything an operator holds, tensors cloned, to be compared later."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, (list, tuple)):
        return [_snapshot(v) for v in value]
    if isinstance(value, dict):
        return {str(k): _snapshot(v) for k, v in value.items()}
    if isinstance(value, torch.nn.Module):  # of a script, other attributes are new objects at every look
        return _snapshot(value.state_dict())
    if isinstance(value, (str, int, float, complex, bool, type(None))):
        return value
    return _snapshot(vars(value)) if hasattr(value, "__dict__") else id(value)


def _changes(before: Any, after: Any, name: str = "") -> list[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        keys = sorted(before.keys() | after.keys())
        missing = [f"{name}{k}" for k in keys if k not in before or k not in after]
        both = [k for k in keys if k in before and k in after]
        return missing + [found for k in both for found in _changes(before[k], after[k], f"{name}{k}.")]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [f for i, pair in enumerate(zip(before, after, strict=True)) for f in _changes(*pair, f"{name}{i}.")]
    if isinstance(before, Tensor) and isinstance(after, Tensor):
        same = before.dtype == after.dtype and before.shape == after.shape and torch.equal(before, after)
    else:
        same = type(before) is type(after) and before == after
    return [] if same else [name.rstrip(".")]


CONTRACT: dict[str, Callable[[Probe], Iterator[Row]]] = {
    "untouched": _untouched,
    "any memory layout": _layout,
    "dtype kept": _dtypes,
    "device": _devices,
    "range mask": _mask,
    "support": _support,
    "take": _problems,
    "refuses what does not fit": _errors,
    "repr": _repr,
    "saved and loaded": _file,
}
