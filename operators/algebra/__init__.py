"""The algebra of operators, in one place.

=====================================  ===============================================================================
``Adjoint``, ``Normal``                ``A.H`` and ``A.H @ A`` (`invdiff.operators.algebra.products`)
``Compose``, ``ComposeNonlinear``      ``A @ B``
``Sum``, ``Scale``                     ``A + B`` and ``c * A`` (`invdiff.operators.algebra.sums`)
``Restrict``                           ``A[rows]`` (`invdiff.operators.algebra.selection`)
``Stack``, ``StackNonlinear``          ``stack([A, B])`` (`invdiff.operators.algebra.stacking`)
=====================================  ===============================================================================
"""

from invdiff.operators.algebra.products import Adjoint, Compose, ComposeNonlinear, Normal, compose
from invdiff.operators.algebra.selection import Restrict
from invdiff.operators.algebra.stacking import Stack, StackNonlinear, stack
from invdiff.operators.algebra.sums import Scale, Sum

__all__ = [
    "Adjoint",
    "Compose",
    "ComposeNonlinear",
    "Normal",
    "Restrict",
    "Scale",
    "Stack",
    "StackNonlinear",
    "Sum",
    "compose",
    "stack",
]
