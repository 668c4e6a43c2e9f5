"""The distribution: every folder listed, links in place, entry points resolve, `import invdiff` is light."""

import fnmatch
import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint, distribution
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MAPPED = {"invdiff.operators": "operators", "invdiff.datasets": "datasets"}
GROUPS = PROJECT["project"]["entry-points"]
ENTRIES = [EntryPoint(name, value, group) for group in GROUPS for name, value in GROUPS[group].items()]

# Slow or optional: `import invdiff` loads none of them, they are imported by the functions that need them.
HEAVY = (
    "accelerate diffusers distributed einops fastmri h5py lightning matplotlib monai netCDF4 numba pandas "
    "pydantic pydicom pytorch_lightning rich safetensors scipy sigpy skimage torchvision typer xarray"
).split()


def run_python(code: str, **environment: str) -> str:
    """Output of `code` in a fresh interpreter that sees installed packages only (-I: no folder of ours)."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT / "tests",
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def source_folders() -> dict[str, Path]:
    """Package name -> folder, for every folder that holds files of the package."""
    found = {}
    for name, top in {"invdiff": "invdiff", **MAPPED}.items():
        for folder, subfolders, files in os.walk(ROOT / top):
            subfolders[:] = [s for s in subfolders if s != "__pycache__" and not (Path(folder) / s).is_symlink()]
            if files:
                inner = Path(folder).relative_to(ROOT / top).parts
                found[".".join([name, *inner])] = Path(folder)
    return found


def test_packages_are_the_tree() -> None:
    # A folder that is not listed works in an editable install and is silently absent from the wheel.
    listed = PROJECT["tool"]["setuptools"]["packages"]
    assert len(listed) == len(set(listed))
    assert set(listed) == set(source_folders())


def test_every_folder_has_an_init() -> None:
    # Without one an editable install does not find the folder.
    assert [name for name, folder in source_folders().items() if not (folder / "__init__.py").is_file()] == []


def test_every_data_file_is_shipped() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["*"]
    files = [path for folder in source_folders().values() for path in folder.iterdir() if path.is_file()]
    data = [path.name for path in files if path.suffix not in (".py", ".pyc")]
    # Where a checkout has no symbolic links, the two stand there as small text files.
    data = [name for name in data if name not in MAPPED.values()]
    assert "py.typed" in data
    assert [name for name in data if not any(fnmatch.fnmatch(name, p) for p in patterns)] == []


def test_package_dir_maps_the_two_folders() -> None:
    assert PROJECT["tool"]["setuptools"]["package-dir"] == MAPPED


@pytest.mark.parametrize("name", MAPPED.values())
def test_links_are_relative(name: str) -> None:
    link = ROOT / "invdiff" / name
    if not link.is_symlink():
        pytest.skip("this checkout has no symbolic links (Windows without developer mode, or a zip file)")
    assert os.readlink(link).replace("\\", "/") == f"../{name}"
    assert link.resolve() == ROOT / name


@pytest.mark.parametrize("name", MAPPED.values())
def test_bare_name_is_refused(name: str) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
try:
    import {name}
except ImportError as error:
    print(error)
"""
    assert f"import it as 'invdiff.{name}'" in run_python(code)


def test_installed_entry_points_are_those_of_pyproject() -> None:
    installed = {(e.group, e.name, e.value) for e in distribution("invdiff").entry_points}
    declared = {(e.group, e.name, e.value) for e in ENTRIES}
    declared |= {("console_scripts", *item) for item in PROJECT["project"]["scripts"].items()}
    assert installed == declared, "pyproject.toml changed since the package was installed: install it again"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: f"{e.group}:{e.name}")
def test_entry_point_resolves(entry: EntryPoint) -> None:
    assert callable(entry.load())


def test_console_script_resolves() -> None:
    assert callable(EntryPoint("invdiff", PROJECT["project"]["scripts"]["invdiff"], "console_scripts").load())


def test_one_version() -> None:
    version = PROJECT["project"]["version"]
    assert distribution("invdiff").version == version
    assert run_python("import invdiff; print(invdiff.__version__)").strip() == version
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_lazy_names_of_operators() -> None:
    code = """
import json, sys
import invdiff.operators
before = "invdiff.operators.mri.sense" in sys.modules
names = {name: getattr(invdiff.operators, name).__module__ for name in invdiff.operators.__all__}
print(json.dumps([before, names, sorted(set(invdiff.operators.__all__) - set(dir(invdiff.operators)))]))
"""
    loaded_early, homes, absent_from_dir = json.loads(run_python(code))
    assert not loaded_early
    assert all(home.startswith("invdiff.operators.") for home in homes.values())
    assert absent_from_dir == []


def test_import_is_light() -> None:
    code = f"""
import sys, time
import torch
before = set(sys.modules)
start = time.perf_counter()
import invdiff
seconds = time.perf_counter() - start
print(seconds, *sorted(set({HEAVY!r}) & (set(sys.modules) - before)))
"""
    # Beyond torch. Other programs may be running, so one quick import in three is enough.
    for _ in range(3):
        seconds, *heavy = run_python(code).split()
        assert heavy == []
        if float(seconds) < 0.2:
            return
    pytest.fail(f"import invdiff took {seconds} s beyond torch")
