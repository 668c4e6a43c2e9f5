"""Damaged files of every format in turn, by the study that damages thousands: only our errors leave a reader."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "fuzz_readers.py"


@pytest.mark.skipif(sys.platform != "linux", reason="the study limits memory as Linux can")
@pytest.mark.skipif(not SCRIPT.is_file(), reason="benchmarks/ is not in the source distribution")
def test_some_damaged_files_of_each_format(tmp_path: Path) -> None:
    for extra in ("SimpleITK", "nibabel", "highdicom"):
        pytest.importorskip(extra)
    command = [sys.executable, str(SCRIPT), "--cases", "160", "--seed", "9", "--json", str(tmp_path / "f.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))
    assert found["found"] == [] and found["escaped"] == found["hangs"] == 0
    assert found["cases"] == found["refused"] + found["accepted"] == 160
    assert min(found["refused"], found["accepted"]) > 20
    assert len(found["formats"]) > 30
