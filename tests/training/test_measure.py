"""Images of a user's own in the unit that a prior expects."""

import pytest
import torch

from invdiff.priors.base import Hounsfield, Units
from invdiff.training import measure
from invdiff.training.image_files import Images

HU = torch.full((4, 20, 20), -1000.0)
HU[:, 5:15, 5:15] = 0.0
FILES = [Images("hu", HU), Images("named", HU, "HU"), Images("bare", HU + 1000), Images("complex", HU + 1000j)]


@pytest.fixture(autouse=True)
def files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "find_images", lambda paths: (FILES, []))


def test_hounsfield_units_become_multiples_of_water() -> None:
    found = dict(measure.slices_of("folder", units=Hounsfield(0.4)))
    assert list(found) == ["named"]  # the others do not say what they are
    assert found["named"].unique().tolist() == pytest.approx([0.0, 0.4])
    found = dict(measure.slices_of("folder", units=Hounsfield(0.4), water=1000.0))
    assert list(found) == ["hu", "named", "bare"]
    assert torch.equal(found["bare"], found["named"])


@pytest.mark.parametrize("units", [None, Units(0.99, 0.8)])
def test_other_priors_get_all_files_by_their_magnitude(units: Units | None) -> None:
    for _, values in measure.slices_of("folder", units=units):
        assert float(torch.quantile(values.abs(), 0.99)) == pytest.approx(0.8, rel=1e-5)
