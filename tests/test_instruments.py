"""Several measurements of one x are worth what each is worth, added up."""

import pytest
import torch

from invdiff.errors import InputError, ShapeError
from invdiff.instruments import join
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian, Noise
from invdiff.operators import Inpainting, Matrix, Resample, WindSpeed
from invdiff.random import generator


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def pair() -> list[Measurement]:
    mask = torch.rand(4, 6, generator=generator(1)) < 0.5
    first = Measurement(randn(2, 4, 6) * mask, Inpainting(mask, (2, 4, 6)), Gaussian(0.3), meta={"name": "camera"})
    sigma = 0.5 + torch.rand(2, 2, 3, generator=generator(2), dtype=torch.float64)
    second = Measurement(randn(2, 2, 3, seed=3), Resample((2, 4, 6), (2, 3), "area"), Gaussian(sigma))
    return [first, second]


def test_chi2_and_data_add_up() -> None:
    parts, x = pair(), randn(5, 2, 4, 6, seed=4)
    both = join(parts)
    torch.testing.assert_close(both.chi2(x), sum(m.chi2(x) for m in parts), rtol=1e-12, atol=0)
    assert both.count == sum(m.count for m in parts)
    assert both.meta["instruments"][0] == {"name": "camera"}
    kept = both.operator.range_mask
    assert kept is not None and int(kept.sum()) == both.count


def test_nonlinear_instruments_and_batches() -> None:
    x = randn(3, 2, 4, 6, seed=5)
    speed = WindSpeed((2, 4, 6))
    parts = [Measurement(randn(1, 4, 6).abs(), speed, Gaussian(0.2)), pair()[1]]
    torch.testing.assert_close(join(parts).chi2(x), sum(m.chi2(x) for m in parts), rtol=1e-12, atol=0)
    a = Matrix(randn(4, 5))
    sigma = torch.tensor([[0.1], [0.2], [0.3]], dtype=torch.float64)  # one for each problem
    batched = [
        Measurement(randn(3, 4), a, Gaussian(sigma.expand(3, 4)), batched=True),
        Measurement(randn(3, 5), Matrix(torch.eye(5, dtype=torch.float64)), Gaussian(1.0), batched=True),
    ]
    z = randn(3, 5, seed=6)
    torch.testing.assert_close(join(batched).chi2(z), sum(m.chi2(z) for m in batched), rtol=1e-12, atol=0)


def test_what_does_not_join_is_refused() -> None:
    first, second = pair()
    with pytest.raises(InputError, match="at least one"):
        join([])
    with pytest.raises(InputError, match="Gaussian"):
        join([first, Measurement(second.y, second.operator, Noise())])
    with pytest.raises(ShapeError, match="problems"):
        join([first, Measurement(second.data, second.operator, second.noise, batched=True)])
