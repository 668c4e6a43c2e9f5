"""Opening and writing files so that every failure is one of ours, naming the file."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from invdiff.errors import FileError, FormatError, InvdiffError

__all__ = ["existing", "head", "parsing", "replacing", "sha256"]


def existing(path: str | Path) -> Path:
    """Return the path of a file that exists and is not empty.

    Raises:
        FileError: there is no such file, or it is a folder. FormatError: it is empty.
    """
    path = Path(path)
    if path.is_dir():
        raise FileError(f"{path} is a folder; a file was expected")
    if not path.is_file():
        raise FileError(f"{path} does not exist; check its name and folder ({path.parent.absolute()})")
    if path.stat().st_size == 0:
        raise FormatError(f"{path} is empty (0 bytes); copy it again from its source")
    return path


def head(path: Path, count: int = 16) -> bytes:
    """Return the first bytes of a file. Raises FileError where it cannot be opened."""
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError as error:
        raise FileError(f"{path} cannot be opened: {error.strerror or error}") from error


def sha256(path: Path) -> str:
    """Return the SHA-256 sum of a file in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def parsing(where: str | Path, kind: str) -> Iterator[None]:
    """Whatever another library raises inside, at a file that is damaged, becomes a FormatError; our own errors pass.

    Raises:
        FormatError: it could not be read as `kind`. FileError: it does not fit into memory.
    """
    try:
        yield
    except InvdiffError:
        raise
    except MemoryError as error:
        raise FileError(f"{where} does not fit into memory") from error
    except Exception as error:  # such libraries fail in any way
        reason = next((s for s in reversed(str(error).strip().splitlines()) if s.strip()), "no reason given").strip()
        raise FormatError(
            f"{where} cannot be read as {kind}: {type(error).__name__}: {reason}; it is damaged or cut short, copy it"
            " again"
        ) from error


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to; rename it to `path` at the end, remove it on any failure.

    Raises:
        FileError: the folder does not exist, `path` is a folder, or writing failed.
    """
    path = Path(path)
    if path.is_dir():
        raise FileError(f"cannot write {path}: it is a folder")
    if not path.parent.is_dir():
        raise FileError(f"cannot write {path}: its folder does not exist; create {path.parent.absolute()} first")
    part = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.part")
    try:
        yield part
        os.replace(part, path)
    except InvdiffError:
        raise
    except (OSError, RuntimeError) as error:  # HDF5 and torch report a full disk as RuntimeError when they close
        reason = error.__context__ if isinstance(error.__context__, OSError) else error
        raise FileError(f"cannot write {path}: {reason}") from error
    finally:
        part.unlink(missing_ok=True)
