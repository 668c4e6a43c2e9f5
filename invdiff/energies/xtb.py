"""Semi-empirical quantum chemistry by tblite (GFN2-xTB, GFN1-xTB): bonds can break and form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from invdiff.energies.single import OneByOne, Single
from invdiff.errors import InputError, UnknownNameError, missing_extra

__all__ = ["XTB"]

_BOHR = 0.0529177210903  # nm (CODATA 2018)
_HARTREE = 2625.4996394799  # kJ/mol (CODATA 2018)
_METHODS = ("GFN2-xTB", "GFN1-xTB", "IPEA1-xTB")


class XTB(OneByOne):
    """The energy of a molecule by extended tight binding.

    Some 1 ms per configuration of 6 atoms on one core. Where the self-consistent charges do not converge, U and force
    are NaN and `failed` counts it (far from any molecule that is common).

    Args:
        symbols: elements.
        charge: total, in e.
        unpaired: number of unpaired electrons.
        method: ``"GFN2-xTB"`` (Bannwarth, Ehlert, Grimme 2019, doi 10.1021/acs.jctc.8b01176), ``"GFN1-xTB"`` or
            ``"IPEA1-xTB"``.
        threads: configurations computed at once.

    Raises:
        UnknownNameError: the method is none of these, or an element is unknown. MissingExtraError: tblite is missing.
    """

    def __init__(
        self, symbols: Sequence[str], charge: int = 0, unpaired: int = 0, method: str = "GFN2-xTB", threads: int = 1
    ) -> None:
        try:
            from tblite.interface import Calculator
        except ImportError as error:
            raise missing_extra("tblite", "xtb", "extended tight binding") from error
        if method not in _METHODS:
            raise UnknownNameError(f"method is {method!r}; it expects one of {', '.join(_METHODS)}")
        if threads < 1 or unpaired < 0:
            raise InputError(f"threads is {threads} and unpaired {unpaired}; they expect at least 1 and 0")
        numbers = np.array([_number(s) for s in symbols])
        apart = np.arange(len(numbers))[:, None] * np.array([10.0, 0.0, 0.0])  # any positions will do to begin with

        def worker() -> Single:
            calculator = Calculator(method, numbers, apart, charge=charge, uhf=unpaired)
            calculator.set("verbosity", 0)
            return lambda x: _single(calculator, x)

        super().__init__([worker() for _ in range(threads)], len(numbers), (RuntimeError,))


def _single(calculator: Any, x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    calculator.update(positions=x / _BOHR)
    result = calculator.singlepoint()
    return float(result.get("energy")) * _HARTREE, -np.asarray(result.get("gradient")) * (_HARTREE / _BOHR)


def _number(symbol: str) -> int:
    if symbol not in _SYMBOLS:
        raise UnknownNameError(f"{symbol!r} is no element up to radon; write its symbol, as 'Cl'")
    return _SYMBOLS.index(symbol) + 1


_SYMBOLS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb Mo"
    " Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg"
    " Tl Pb Bi Po At Rn"
).split()
