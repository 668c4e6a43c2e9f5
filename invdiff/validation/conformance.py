"""The outcome of a conformance suite: one row a check, a table to read and a dictionary for JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Report", "Row", "at_most", "guarded"]


@dataclass(frozen=True)
class Row:
    """One check.

    Args:
        name: what was checked, unique within a report.
        passed: the verdict; None where the value is recorded and not judged.
        value: the measured number, None where the check has none.
        limit: what `value` was held against, None where nothing is.
        detail: what was found, in words.
    """

    name: str
    passed: bool | None
    value: float | None = None
    limit: float | None = None
    detail: str = ""


@dataclass
class Report:
    """All checks of one target; ``report.ok`` is the verdict and ``print(report)`` the table."""

    target: str
    rows: list[Row] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether something was judged and nothing failed."""
        verdicts = [row.passed for row in self.rows if row.passed is not None]
        return bool(verdicts) and all(verdicts)

    @property
    def failed(self) -> list[str]:
        """Names of the checks that failed."""
        return [row.name for row in self.rows if row.passed is False]

    def __getitem__(self, name: str) -> Row:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"no check is called {name!r}; there are {[row.name for row in self.rows]}")

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON can hold it (a number that is not finite becomes its name)."""
        rows = [
            {
                "name": row.name,
                "passed": row.passed,
                "value": _plain(row.value),
                "limit": _plain(row.limit),
                "detail": row.detail,
            }
            for row in self.rows
        ]
        return {"target": self.target, "ok": self.ok, "rows": rows}

    def __str__(self) -> str:
        words = {True: "pass", False: "FAIL", None: "-"}
        cells = [("check", "", "value", "limit", "")] + [
            (row.name, words[row.passed], _number(row.value), _number(row.limit), row.detail) for row in self.rows
        ]
        widths = [max(len(line[i]) for line in cells) for i in range(4)]
        lines = [
            f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}  {e}".rstrip()
            for a, b, c, d, e in cells
        ]
        judged = [row for row in self.rows if row.passed is not None]
        verdict = f"{len(judged) - len(self.failed)} of {len(judged)} checks passed: {'ok' if self.ok else 'NOT ok'}"
        return "\n".join([self.target, *lines, verdict])


def at_most(name: str, value: float, limit: float, detail: str = "") -> Row:
    """Judge ``value <= limit``; NaN fails."""
    return Row(name, value <= limit, value, limit, detail)


def guarded(name: str, check: Callable[[], Iterable[Row]]) -> list[Row]:
    """Run a check; whatever it raises becomes a failed row, so that the checks after it still run."""
    rows: list[Row] = []
    try:
        for row in check():
            rows.append(row)  # one by one: those before an exception count
    except Exception as error:  # noqa: BLE001 - a plug-in may raise anything, and that is the finding
        text = " ".join(str(error).split())
        rows.append(Row(name, False, detail=f"raised {type(error).__name__}: {text[:200]}"))
    return rows


def _plain(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
