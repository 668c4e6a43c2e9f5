"""Times of any calendar as numbers: ``datetime64``, or the cftime objects of 360-day, no-leap and other calendars."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from invdiff.errors import InputError

__all__ = ["hours_since", "instant", "later"]

_STAMP = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d)(?::(\d\d)(?::(\d\d))?)?)?$")


def hours_since(times: NDArray[Any], start: Any) -> NDArray[np.float64]:
    """Hours from `start` to each of the times.

    Raises:
        InputError: they are of different calendars.
    """
    times = np.atleast_1d(np.asarray(times))
    if times.dtype.kind == "M" and isinstance(start, np.datetime64):
        return (times - start) / np.timedelta64(1, "h")
    try:
        return np.array([(t - start).total_seconds() / 3600 for t in times])
    except (TypeError, ValueError, AttributeError) as error:
        kinds = " and ".join(str(getattr(t, "calendar", "standard")) for t in (times[0], start))
        raise InputError(f"times are of the calendars {kinds}; expected one calendar in all files") from error


def later(time: Any, hours: float) -> Any:
    """The time so many hours after another, in its calendar."""
    if isinstance(time, np.datetime64):
        return time + np.timedelta64(round(3600 * hours), "s")
    return time + timedelta(hours=hours)


def instant(text: str, like: Any) -> Any:
    """A time given as ISO 8601, in the calendar of another.

    Raises:
        InputError: it is no such time, or that calendar has no such day.
    """
    try:
        if isinstance(like, np.datetime64):
            return np.datetime64(text)
        found = _STAMP.match(text)
        if found is None:
            raise ValueError("expected YYYY-MM-DDTHH:MM")
        return type(like)(*(int(part or 0) for part in found.groups()), calendar=like.calendar)
    except ValueError as error:
        calendar = getattr(like, "calendar", "standard")
        raise InputError(f"{text!r} is no time of the {calendar} calendar: {error}") from error
