"""Any calculator of the Atomic Simulation Environment as an energy: machine-learned potentials, quantum chemistry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from invdiff.energies.single import OneByOne, Single
from invdiff.errors import InputError, missing_extra

__all__ = ["ASE", "ELECTRONVOLT"]

ELECTRONVOLT = 96.48533212331  # kJ/mol (CODATA 2018)


class ASE(OneByOne):
    """The energy of an ASE calculator. It works in eV and Å; here it is kJ/mol and nm.

    Args:
        calculator: a function that makes an ASE calculator; called once per thread.
        symbols: elements.
        charge, multiplicity: stored in ``Atoms.info`` as ``charge`` and ``spin``, where some calculators read them, and
            as initial charges and magnetic moments of the first atom, where the others do. A calculator that takes
            them as its own arguments should get them there.
        threads: configurations computed at once.

    Raises:
        InputError: `calculator` is not a function. MissingExtraError: ase is not installed.
    """

    def __init__(
        self,
        calculator: Callable[[], Any],
        symbols: Sequence[str],
        charge: int = 0,
        multiplicity: int = 1,
        threads: int = 1,
    ) -> None:
        try:
            from ase import Atoms
            from ase.calculators.calculator import CalculatorError
        except ImportError as error:
            raise missing_extra("ase", "molecules", "an ASE calculator") from error
        if not callable(calculator):
            raise InputError(f"calculator is {calculator!r}; expected a function that makes one: lambda: EMT()")
        if threads < 1:
            raise InputError(f"threads is {threads}; it expects 1 or more")

        def worker() -> Single:
            first = np.zeros(len(symbols))
            first[0] = 1.0
            charges, moments = charge * first, (multiplicity - 1) * first
            atoms = Atoms(
                list(symbols), charges=charges, magmoms=moments, info={"charge": charge, "spin": multiplicity}
            )
            atoms.calc = calculator()
            return lambda x: _single(atoms, x)

        # A calculator that does not converge says so by one of these; errors of use (a missing file) are others.
        super().__init__([worker() for _ in range(threads)], len(symbols), (CalculatorError, np.linalg.LinAlgError))


def _single(atoms: Any, x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    atoms.calc.reset()
    atoms.set_positions(x * 10)
    force = np.asarray(atoms.get_forces(), dtype=np.float64) * (10 * ELECTRONVOLT)
    return float(atoms.get_potential_energy()) * ELECTRONVOLT, force
