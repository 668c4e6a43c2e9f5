"""invdiff: posterior draws for scientific inverse problems, with diffusion priors.

``measurement + prior + sampler -> posterior draws``:

>>> import invdiff
>>> measurement = invdiff.read("kspace.h5")  # doctest: +SKIP
>>> posterior = invdiff.sample(measurement, "mri", draws=8, seed=0)  # doctest: +SKIP
>>> posterior.save("out.nc")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from invdiff import datasets, errors, noise, operators
    from invdiff.datasets.reading import read
    from invdiff.measurement import Measurement
    from invdiff.posterior import Posterior
    from invdiff.priors.loading import load_prior
    from invdiff.sampling import sample

__all__ = [
    "Measurement",
    "Posterior",
    "__version__",
    "datasets",
    "errors",
    "load_prior",
    "noise",
    "operators",
    "read",
    "sample",
]
__version__ = "0.1.0"

_HOMES = {
    "Measurement": "invdiff.measurement",
    "Posterior": "invdiff.posterior",
    "load_prior": "invdiff.priors.loading",
    "read": "invdiff.datasets.reading",
    "sample": "invdiff.sampling",
}
_MODULES = {
    "datasets",
    "errors",
    "noise",
    "operators",
    "priors",
    "samplers",
    "solvers",
    "guidance",
    "validation",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"invdiff.{name}")
    raise AttributeError(f"module 'invdiff' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(__all__) | _MODULES)
