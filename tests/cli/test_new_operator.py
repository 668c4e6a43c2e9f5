import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from invdiff.cli.new_operator import class_name, write_package


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The package written, and installed into a folder of its own: the environment stays as it is."""
    pytest.importorskip("setuptools", "77", reason="the package is built without the network, with what is here")
    folder = write_package("demo_modality", tmp_path_factory.mktemp("written"))
    target = tmp_path_factory.mktemp("target")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pip", "install", *options, "--target", str(target), str(folder)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder, target


@pytest.fixture
def on_path(installed: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(installed[1])
    importlib.invalidate_caches()


def test_check_and_info_find_it(on_path: None, call, tmp_path: Path) -> None:
    result = call("check", "demo_modality", "--json", tmp_path / "c.json")
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "c.json").read_text())
    assert content["ok"] and {"adjoint, single", "gradcheck", "saved and loaded"} <= {
        r["name"] for r in content["rows"]
    }
    assert all(row["passed"] for row in content["rows"] if row["name"] == "saved and loaded")
    call("info", "--json", tmp_path / "i.json")
    assert "running sums" in json.loads((tmp_path / "i.json").read_text())["operators"]["demo_modality"]


def test_check_notices_a_mistake_made_in_it(on_path: None, call, monkeypatch: pytest.MonkeyPatch) -> None:
    made = importlib.import_module("demo_modality").DemoModality
    monkeypatch.setattr(made, "_adjoint", lambda self, y: self.weights * y.flip(-1).cumsum(-1).flip(-1))
    result = call("check", "demo_modality")
    assert result.exit_code == 1 and "FAIL" in result.output


def test_its_own_tests_pass(installed: tuple[Path, Path]) -> None:
    folder, target = installed
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(target), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout


def test_what_is_written(tmp_path: Path, call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = call("new-operator", "thz_2d", "--json", "n.json")
    assert result.exit_code == 0, result.output
    content = json.loads(Path("n.json").read_text())
    assert content["class"] == "Thz2d" and "src/thz_2d/operator.py" in content["files"]
    for file in content["files"]:
        text = (tmp_path / "thz_2d" / file).read_text(encoding="utf-8")
        assert "$" not in text
        if file.endswith(".py"):
            compile(text, file, "exec")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["n.json", "thz_2d"]


def test_an_existing_folder_is_left_alone(tmp_path: Path, call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    result = call("new-operator", "mine")
    assert result.exit_code == 2 and result.stderr.startswith("error: ") and "exists already" in result.stderr
    assert list(Path("mine").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Demo", "small letters"),
        ("2d", "small letters"),
        ("a-b", "small letters"),
        ("demo_", "small letters"),
        ("../up", "small letters"),
        ("", "small letters"),
        ("lambda", "grammar"),
        ("mri", "registered by invdiff"),
        ("json", "installed module"),
        ("torch", "installed module"),
    ],
)
def test_names_that_would_not_work(name: str, reason: str, tmp_path: Path, call, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = call("new-operator", name)
    assert result.exit_code == 2 and reason in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_class_names() -> None:
    assert [class_name(n) for n in ("demo_modality", "a1__b", "pet")] == ["DemoModality", "A1B", "Pet"]


def test_a_prior_of_a_plug_in_is_listed_and_loaded(tmp_path: Path, call, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "flat_prior-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: flat-prior\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[invdiff.priors]\nflat = flat_prior:flat\n")
    code = "def flat():\n    '''White images.'''\n    return lambda x, sigma: x / (1 + sigma**2)\n"
    (tmp_path / "flat_prior.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    call("info", "--json", tmp_path / "i.json")
    assert json.loads((tmp_path / "i.json").read_text())["priors"]["flat"] == "White images."
    from invdiff.errors import FileError
    from invdiff.priors.loading import load_prior

    x = load_prior("flat").denoise(*[importlib.import_module("torch").ones(1, 2)] * 2)
    assert x.tolist() == [[0.5, 0.5]]
    with pytest.raises(FileError, match="plug-in's: .*flat"):
        load_prior("flatt")
