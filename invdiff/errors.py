"""The exceptions a user can meet.

Every one of them says in a sentence what was found, what was expected and what to do. They all derive from
`InvdiffError` and from the built-in exception a caller would expect, so ``except ValueError`` keeps working.
"""

from __future__ import annotations

__all__ = [
    "InvdiffError",
    "InputError",
    "ShapeError",
    "DTypeError",
    "FileError",
    "FormatError",
    "MissingExtraError",
    "UnknownNameError",
    "missing_extra",
]


class InvdiffError(Exception):
    """Base of every exception raised on purpose by invdiff."""


class InputError(InvdiffError, ValueError):
    """A value that cannot be used: NaN, a negative sigma, an absurd option."""


class ShapeError(InputError):
    """An array whose shape does not fit the operator, the prior or the file it is meant for."""


class UnknownNameError(InputError):
    """A name (sampler, solver, prior, method) that is not known; the message lists those that are."""


class DTypeError(InvdiffError, TypeError):
    """An array of the wrong kind (real where complex is needed, integers where floats are)."""


class FileError(InvdiffError, OSError):
    """A file that cannot be read or written; the message names it."""


class FormatError(FileError, ValueError):
    """A file that opens, but whose content is not what its format promises (missing key, wrong rank, NaN)."""


class MissingExtraError(InvdiffError, ImportError):
    """An optional dependency is not installed; the message says which extra brings it."""


def missing_extra(package: str, extra: str, purpose: str) -> MissingExtraError:
    """Build the exception for an absent optional `package` that the extra `extra` would bring."""
    return MissingExtraError(f"{purpose} needs {package}, which is not installed: pip install 'invdiff[{extra}]'")
