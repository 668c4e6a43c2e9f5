"""Guided samplers keep the samplers' contract under every named solver."""

import pytest

from invdiff.guidance import DDS
from invdiff.samplers.guided import Guided
from invdiff.solvers import named_solver, solver_names
from invdiff.validation import sampler_suite


@pytest.mark.parametrize("name", solver_names())
def test_guided_conforms(name, monkeypatch):
    # What a solver can spoil; how near the posterior is, `test_order` and the judge say.
    checks = {k: sampler_suite._CHECKS[k] for k in ("seeds", "units are independent", "invariant in unit", "cost")}
    monkeypatch.setattr(sampler_suite, "_CHECKS", checks)

    def make(nfe=None, solver=None):
        return Guided(DDS, solver or named_solver(name), nfe or 20, name=name, uses_vjp=False)

    report = sampler_suite.check_sampler(make)
    assert report.ok, str(report)
