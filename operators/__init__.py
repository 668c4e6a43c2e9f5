"""Forward models: y = A(x) + noise.

=================  =========================================================
``Operator``       the contract and its algebra (``invdiff.operators.base``)
``Matrix``         a dense matrix acting on vectors
``Identity``       direct observation
``MRI``            Cartesian multi-coil SENSE, complex native
=================  =========================================================

The names above are loaded on first use; ``invdiff.operators.masks`` and other modules by importing them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if __name__ != "invdiff.operators":
    raise ImportError(
        f"this folder was imported as '{__name__}'; import it as 'invdiff.operators' "
        "(and keep the root of the checkout off sys.path)"
    )

if TYPE_CHECKING:
    from invdiff.operators.base import Operator as Operator
    from invdiff.operators.matrix import Identity as Identity
    from invdiff.operators.matrix import Matrix as Matrix
    from invdiff.operators.mri import MRI as MRI

__all__ = ["MRI", "Identity", "Matrix", "Operator"]

_HOME = {"Operator": "base", "Matrix": "matrix", "Identity": "matrix", "MRI": "mri"}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
