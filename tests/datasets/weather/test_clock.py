"""Times of calendars that datetime64 does not know."""

import cftime
import numpy as np
import pytest

from invdiff.datasets.weather.clock import hours_since, instant, later
from invdiff.errors import InputError

DAY = cftime.Datetime360Day(2001, 2, 30)


def test_hours_and_back() -> None:
    assert hours_since(np.array([later(DAY, 25.5)]), DAY).tolist() == [25.5]
    assert later(DAY, 24.0) == cftime.Datetime360Day(2001, 3, 1)
    stamps = np.array(["2019-03-01T06:30", "2019-03-02"], "datetime64[ns]")
    assert hours_since(stamps, np.datetime64("2019-03-01")).tolist() == [6.5, 24.0]
    assert later(stamps[1], -0.5) == np.datetime64("2019-03-01T23:30")


def test_a_time_in_words() -> None:
    assert instant("2001-02-30", DAY) == DAY and instant("2001-02-30T06:15", DAY) == later(DAY, 6.25)
    assert instant("2019-03-01T06", np.datetime64("2000-01-01")) == np.datetime64("2019-03-01T06")
    with pytest.raises(InputError, match="360_day"):
        instant("2001-01-31", DAY)
    with pytest.raises(InputError, match="noleap"):
        instant("2004-02-29", cftime.DatetimeNoLeap(2001, 1, 1))
    with pytest.raises(InputError, match="standard"):
        instant("tomorrow", np.datetime64("2000-01-01"))


def test_calendars_do_not_mix() -> None:
    with pytest.raises(InputError, match="360_day"):
        hours_since(np.array(["2019-03-01"], "datetime64[ns]"), DAY)
    with pytest.raises(InputError, match="one calendar"):
        hours_since(np.array([DAY]), cftime.DatetimeNoLeap(2001, 1, 1))
