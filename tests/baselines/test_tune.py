import math

import pytest
import torch

from invdiff.baselines.cg_sense import cg_sense
from invdiff.baselines.tune import tune
from invdiff.baselines.tv import tv
from invdiff.baselines.wavelet import wavelet
from invdiff.baselines.zero_filled import zero_filled
from invdiff.errors import InputError
from invdiff.measurement import Measurement
from invdiff.metrics.image import psnr
from invdiff.noise import Gaussian
from invdiff.operators.matrix import Identity
from invdiff.operators.mri.sense import MRI

ANY = Measurement(torch.ones(2), Identity((2,)), Gaussian(1.0))


def record(measurement: Measurement, strength: float) -> torch.Tensor:
    del measurement
    return torch.tensor([strength], dtype=torch.float64)


@pytest.mark.parametrize("best", [3e-6, 0.02, 7.0, 10.0, 4e5])
def test_optimum_is_found_and_interior(best):
    found = tune(record, ANY, lambda x: abs(math.log10(float(x) / best)))
    assert abs(math.log10(found.strength / best)) <= 0.125 + 1e-9  # half the final spacing of 1/4 decade
    assert found.interior and found.score == found.tried[found.strength] == min(found.tried.values())
    assert min(found.tried) < found.strength < max(found.tried)
    assert float(found.x) == found.strength
    assert list(found.tried) == sorted(found.tried)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_search_without_optimum_ends_and_says_so(sign):
    found = tune(record, ANY, lambda x: sign * math.log10(float(x)))
    assert not found.interior
    assert math.log10(found.strength) * -sign >= 8


def test_given_strengths_are_the_ones_tried():
    found = tune(record, ANY, lambda x: abs(float(x) - 2), [1, 2, 3])
    assert list(found.tried) == [1.0, 2.0, 3.0] and found.strength == 2 and found.interior
    assert not tune(record, ANY, lambda x: float(x), [1, 2, 3]).interior


def test_nan_is_never_best():
    found = tune(record, ANY, lambda x: math.nan if float(x) > 5 else -float(x), [1, 2, 30])
    assert found.strength == 2 and found.tried[30.0] == math.inf
    found = tune(record, ANY, lambda x: math.nan, [1, 2])
    assert found.score == math.inf


@pytest.mark.parametrize("strengths", [[], [0.0], [1.0, math.inf]])
def test_refused_strengths(strengths):
    with pytest.raises(InputError, match="strengths"):
        tune(record, ANY, float, strengths)


def test_the_penalised_reconstructions_beat_the_plain_ones():
    g = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 40), torch.linspace(-1, 1, 36), indexing="ij")
    disc = ((rows**2 + columns**2) < 0.7) + 0.7 * ((rows - 0.2) ** 2 + columns**2 < 0.15)
    truth = torch.polar(disc.float(), 0.5 * rows)[None, None]
    maps = torch.stack([torch.exp(-((rows - a) ** 2) - (columns - b) ** 2) for a in (-1, 1) for b in (-1, 1)])
    mask = torch.rand(40, 36, generator=g) < 0.3
    mask[17:23, 15:21] = True
    op = MRI(maps.to(torch.complex64), mask)
    noise = Gaussian(0.02)
    case = Measurement((noise.sample(op.forward(truth), g) * mask)[0], op, noise)

    def loss(x: torch.Tensor) -> float:
        return -psnr(truth[0], x[0])

    plain = -loss(zero_filled(case))
    found = {f.__name__: tune(f, case, loss) for f in (cg_sense, tv, wavelet)}
    assert all(t.interior for t in found.values())
    decibels = {name: -t.score for name, t in found.items()}
    # Piecewise constant: total variation is the right penalty, and wavelets are better than none.
    assert plain + 3 < decibels["cg_sense"] < decibels["wavelet"] - 1 < decibels["tv"] - 2
