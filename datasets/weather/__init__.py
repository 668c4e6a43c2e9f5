"""Fields and observations of the atmosphere.

- ``cf``, ``netcdf``: gridded fields from NetCDF, Zarr and GRIB by CF; ``ensemble``: draws out as such.
- ``stations``: tables of observations; ``igra`` (soundings) and ``metar`` (airports) give the same, by ``moisture``.
- ``measurements``, ``columns``: fields and observations as measurements; ``coarse``: a coarse field alone.
"""

from invdiff.datasets.weather.measurements import Channel, State, coarse_measurement, station_measurement

__all__ = ["Channel", "State", "coarse_measurement", "station_measurement"]
