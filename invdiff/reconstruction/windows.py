"""Observations of several times as one measurement of a window, in the units that a fields prior works in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from invdiff.errors import InputError
from invdiff.instruments import join
from invdiff.measurement import Measurement
from invdiff.operators.base import LinearOperator
from invdiff.operators.fields.windows import Snapshot
from invdiff.priors.fields_calendar import Calendar

__all__ = ["states_of", "window_measurement"]


def window_measurement(
    instruments: Mapping[int, Sequence[Measurement]], calendar: Calendar, time: np.datetime64
) -> Measurement:
    """Return one measurement of a window of standardised anomalies z, where ``x_t = normal_t + std z_t``.

    Linear operators turn into ``A (normal_t + std z_t)``: A after `Snapshot`, and the data less A of what is normal.

    Args:
        instruments: measurements of states x, by the position of their time among the window's offsets.
        time: that the window is named after.

    Raises:
        InputError: there is none, or an operator is not linear. ShapeError: they do not fit each other.
    """
    normal = calendar.normal(np.atleast_1d(time))
    count = len(calendar.std)
    shape = tuple(normal.shape[1:])
    found = []
    for index, measurements in sorted(instruments.items()):
        snapshot = Snapshot(shape, index, calendar.std)
        for m in measurements:
            if not isinstance(m.operator, LinearOperator):
                raise InputError(f"{m.operator!r} is not linear; windows of anomalies take linear operators")
            usual = m.operator.forward(normal[:, index * count : (index + 1) * count].to(m.y))
            y = m.data - usual
            if m.operator.range_mask is not None:
                y = y * m.operator.range_mask
            meta = {**m.meta, "offset_h": calendar.offsets[index]}
            found.append(
                Measurement(y if m.batched else y[0], m.operator @ snapshot, m.noise, m.coords, meta, batched=m.batched)
            )
    if not found:
        raise InputError(f"no observations lie in the window about {time}")
    return join(found)


def states_of(z: Tensor, calendar: Calendar, time: np.datetime64, offset: float = 0.0) -> Tensor:
    """The states x at one time of windows z ``(draws, offsets x C, rows, columns)``: ``(draws, C, rows, columns)``.

    Raises:
        InputError: the window has no such time.
    """
    if offset not in calendar.offsets:
        raise InputError(f"offset {offset} h is not one of the window's, {calendar.offsets}")
    count, index = len(calendar.std), calendar.offsets.index(offset)
    part = slice(index * count, (index + 1) * count)
    normal = calendar.normal(np.atleast_1d(time))[:, part]
    return normal.to(z) + z[:, part] * calendar.deviations()[part].to(z)
