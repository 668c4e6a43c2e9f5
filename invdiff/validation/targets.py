"""Find what a target names and check it: ``package:Object``, an entry point's name, or a whole distribution."""

from __future__ import annotations

import importlib
import inspect
from importlib.metadata import EntryPoint, PackageNotFoundError, distribution, entry_points
from typing import Any

from invdiff.errors import InputError, UnknownNameError
from invdiff.operators.base import Operator
from invdiff.validation.conformance import Report, Row
from invdiff.validation.operator_suite import check_operator
from invdiff.validation.sampler_suite import check_sampler

__all__ = ["check_object", "find_operator", "imported", "run_check"]

GROUPS = ("invdiff.operators", "invdiff.samplers")


def run_check(target: str, *, seed: int = 0) -> Report:
    """Run the conformance suite on what `target` names.

    ``"package.module:Object"`` is imported; a name like ``"mri"`` or ``"dds"`` is looked up among the operators and
    samplers that installed packages register; a distribution's name stands for all that it registers.

    Raises:
        UnknownNameError: nothing has that name. InputError: the object cannot be imported.
        DTypeError: the object is neither an operator nor a sampler.
    """
    if ":" in target:
        return check_object(imported(target), seed=seed)
    named = [p for group in GROUPS for p in entry_points(group=group) if p.name == target]
    if len(named) == 1:
        return _checked(named[0], seed)
    points = named or _registered(target)
    rows = []
    for point in points:
        label = f"{point.group.rpartition('.')[2].rstrip('s')} {point.name}"
        report = _checked(point, seed)
        rows += [Row(f"{label}: {r.name}", r.passed, r.value, r.limit, r.detail) for r in report.rows]
    return Report(target, rows)


def check_object(obj: Any, *, seed: int = 0) -> Report:
    """Run the suite that fits: the sampler's where obj makes states or takes ``nfe``, else the operator's."""
    if not isinstance(obj, Operator) and (hasattr(obj, "steps") or _takes_nfe(obj)):
        return check_sampler(obj, seed=seed)
    return check_operator(obj, seed=seed)


def _takes_nfe(obj: Any) -> bool:
    return inspect.isfunction(obj) and "nfe" in inspect.signature(obj).parameters


def _registered(name: str) -> list[EntryPoint]:
    try:
        points = [p for p in distribution(name).entry_points if p.group in GROUPS]
    except PackageNotFoundError:
        known = sorted({p.name for group in GROUPS for p in entry_points(group=group)})
        raise UnknownNameError(
            f"nothing is called {name!r}: give package:Object, a distribution, or one of {', '.join(known)}"
        ) from None
    if not points:
        raise UnknownNameError(f"the distribution {name!r} registers nothing in {' or '.join(GROUPS)}")
    return points


def _checked(point: EntryPoint, seed: int) -> Report:
    """Check one entry point; one that cannot be loaded or built is a finding, and the others are still checked."""
    try:
        return check_object(point.load(), seed=seed)
    except Exception as error:  # noqa: BLE001 - a plug-in may raise anything
        home = point.dist.name if point.dist else "an unknown distribution"
        detail = f"{point.value} of {home} raised {type(error).__name__}: {error}"
        return Report(point.name, [Row("can be loaded and built", False, detail=detail)])


def find_operator(target: str) -> Any:
    """Return what an operator's registered name, or ``package.module:Object``, stands for.

    Raises:
        UnknownNameError: no operator is registered by that name. InputError: the object cannot be imported.
    """
    if ":" in target:
        return imported(target)
    known = {point.name: point for point in entry_points(group=GROUPS[0])}
    if target not in known:
        raise UnknownNameError(f"no operator {target!r}: give package:Object, or one of {', '.join(sorted(known))}")
    return known[target].load()


def imported(target: str) -> Any:
    """Import ``package.module:Object``. Raises InputError."""
    module, _, path = target.partition(":")
    try:
        found = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"cannot import {target!r}: {error}; expected package.module:Object") from error
    return found
