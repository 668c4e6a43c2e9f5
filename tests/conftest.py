"""Fixtures, and the one rule of importing: tests see the installed package only."""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# `python -m pytest` puts the root of the checkout on sys.path. There, the bare names `operators` and
# `datasets` would be ours (the second hides Hugging Face's), and ./invdiff would hide an installed wheel.
sys.path[:] = [entry for entry in sys.path if Path(entry or os.curdir).resolve() != ROOT]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real measurements, named by INVDIFF_DATA; the test is skipped where that is not set."""
    value = os.environ.get("INVDIFF_DATA")
    if not value:
        pytest.skip("INVDIFF_DATA is not set: it names the folder of real measurements")
    folder = Path(value)
    if not folder.is_dir():
        pytest.fail(f"INVDIFF_DATA is '{folder}', which is not a folder")
    return folder
