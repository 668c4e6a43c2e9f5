from importlib.metadata import EntryPoint, EntryPoints

import pytest

from invdiff.errors import DTypeError, InputError, UnknownNameError
from invdiff.samplers.named import mmps
from invdiff.validation import targets
from invdiff.validation.conformance import Report, Row
from invdiff.validation.targets import run_check


@pytest.fixture
def no_sampler_run(monkeypatch):
    """A sampler's suite takes seconds; here it only matters that it is asked for."""
    seen = []

    def check(target, *, seed=0):
        seen.append((target, seed))
        return Report("sampler", [Row("asked", True)])

    monkeypatch.setattr(targets, "check_sampler", check)
    return seen


def test_an_object_by_its_path():
    report = run_check("invdiff.operators:Matrix")
    assert report.ok and report.target.startswith("Matrix")
    assert run_check("invdiff.operators.matrix:Matrix.example").ok  # a factory that takes a generator


def test_a_registered_name():
    assert run_check("identity").target.startswith("Identity")


def test_a_sampler_by_name_or_path(no_sampler_run):
    assert run_check("mmps", seed=3).ok and run_check("invdiff.samplers.named:mmps").ok
    assert run_check("invdiff.samplers.dps:DPS").ok
    assert no_sampler_run[0] == (mmps, 3) and no_sampler_run[1] == (mmps, 0)


def test_a_distribution_stands_for_all_it_registers(no_sampler_run):
    report = run_check("invdiff")
    assert report.ok and len(no_sampler_run) >= 5
    assert report["operator matrix: adjoint, double"].passed and report["sampler dds: asked"].passed


@pytest.mark.parametrize(
    ("target", "error", "words"),
    [
        ("no-such-thing", UnknownNameError, "mmps"),
        ("pytest", UnknownNameError, "registers nothing"),
        ("no_such_package:Thing", InputError, "no_such_package"),
        ("invdiff.operators:NoSuch", InputError, "NoSuch"),
        (":Matrix", InputError, "package.module:Object"),
        ("invdiff.errors:InputError", DTypeError, "no Operator"),
    ],
)
def test_what_cannot_be_found_is_named(target, error, words):
    with pytest.raises(error, match=words):
        run_check(target)


def test_a_broken_plugin_is_a_finding(monkeypatch):
    broken = EntryPoint("lost", "no_such_plugin:Lost", "invdiff.operators")
    good = EntryPoint("lost", "invdiff.operators:Matrix", "invdiff.operators")
    monkeypatch.setattr(
        targets, "entry_points", lambda group: EntryPoints([broken, good] if group == "invdiff.operators" else [])
    )
    report = run_check("lost")  # two claims on one name: both are checked
    assert report.failed == ["operator lost: can be loaded and built"]
    assert "no_such_plugin" in report["operator lost: can be loaded and built"].detail
