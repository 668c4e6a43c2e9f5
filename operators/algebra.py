"""The algebra of operators, in one place.

=====================================  ===============================================================================
``Adjoint``, ``Normal``                ``A.H`` and ``A.H @ A`` (`invdiff.operators.products`)
``Compose``, ``ComposeNonlinear``      ``A @ B``
``Sum``, ``Scale``                     ``A + B`` and ``c * A`` (`invdiff.operators.sums`)
``Restrict``                           ``A[rows]`` (`invdiff.operators.selection`)
``Stack``, ``StackNonlinear``          ``stack([A, B])`` (`invdiff.operators.stacking`)
=====================================  ===============================================================================
"""

from invdiff.operators.products import Adjoint, Compose, ComposeNonlinear, Normal, compose
from invdiff.operators.selection import Restrict
from invdiff.operators.stacking import Stack, StackNonlinear, stack
from invdiff.operators.sums import Scale, Sum

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
