"""Posterior: statistics with the right factors, intervals that hold what they say, files that come back."""

from pathlib import Path

import numpy as np
import pytest
import torch

from invdiff.errors import FileError, FormatError, InputError, UnknownNameError
from invdiff.posterior import Posterior
from invdiff.random import generator


def complex_draws(n: int = 6) -> Posterior:
    draws = torch.randn(n, 1, 4, 5, dtype=torch.complex64, generator=generator(0))
    coords = {"y": ("y", np.arange(4) * 0.5, {"units": "mm"})}
    return Posterior.from_draws(draws, coords, {"seed": 3}, {"chi2_ratio": 1.02})


def test_mean_and_std() -> None:
    posterior = complex_draws()
    x = posterior.draws.values
    np.testing.assert_allclose(posterior.mean().values, x.mean(0), rtol=1e-5, atol=1e-6)
    expected = np.sqrt((np.abs(x - x.mean(0)) ** 2).sum(0) / 5)
    np.testing.assert_allclose(posterior.std().values, expected, rtol=1e-5)
    assert posterior.ess() == pytest.approx(6)


def test_a_better_mean_moves_no_spread() -> None:
    draws = torch.randn(5, 1, 3, 4, generator=generator(3))
    plain, better = (Posterior.from_draws(draws, expectation=e) for e in (None, draws.mean(0) + 7))
    np.testing.assert_allclose(better.mean().values, plain.mean().values + 7, rtol=1e-5)
    np.testing.assert_array_equal(better.std().values, plain.std().values)


def test_weighted_statistics() -> None:
    posterior = Posterior.from_draws(torch.tensor([[0.0], [1.0], [5.0]]))
    posterior.dataset["log_weight"] = ("draw", np.log([1.0, 3.0, 1e-30]))
    assert float(posterior.mean()[0]) == pytest.approx(0.75)
    assert float(posterior.std()[0]) == pytest.approx(np.sqrt(0.1875))
    assert posterior.ess() == pytest.approx(1 / (1 / 16 + 9 / 16))


def test_weighted_quantiles_are_those_of_repeated_draws() -> None:
    values = torch.randn(400, 3, generator=generator(1))
    copies = torch.arange(400) % 4
    posterior = Posterior.from_draws(values, log_weight=copies.double().log() + 300)
    repeated = Posterior.from_draws(values.repeat_interleave(copies, 0))
    # Neighbouring draws are about 0.01 apart in probability; the two interpolate differently between them.
    for q in (0.1, [0.25, 0.5, 0.9]):
        found, expected = posterior.quantile(q), repeated.quantile(q)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found.values, expected.values, atol=0.06)
    np.testing.assert_allclose(posterior.interval(0.8).values, repeated.interval(0.8).values, atol=0.06)
    np.testing.assert_allclose(posterior.mean().values, repeated.mean().values, atol=1e-5)
    with pytest.raises(InputError, match="from 0 to 1"):
        posterior.quantile(1.2)


def test_equal_weights_change_no_interval() -> None:
    values = torch.randn(60, 5, generator=generator(2))
    plain, equal = Posterior.from_draws(values), Posterior.from_draws(values, log_weight=torch.full((60,), -7.0))
    np.testing.assert_allclose(equal.interval(0.75).values, plain.interval(0.75).values, rtol=1e-5)
    assert equal.ess() == pytest.approx(60)


def test_weights_of_several_problems_come_back_from_a_file(tmp_path: Path) -> None:
    log_weight = torch.tensor([[0.0, 900.0], [np.log(3.0), 900.0]], dtype=torch.float64)
    draws = torch.tensor([[[0.0], [0.0]], [[1.0], [1.0]]])
    posterior = Posterior.from_draws(draws, batched=True, log_weight=log_weight)
    back = Posterior.load(posterior.save(tmp_path / "w.nc"))
    for found in (posterior, back):
        np.testing.assert_allclose(found.mean().values[:, 0], [0.75, 0.5], rtol=1e-6)
        np.testing.assert_allclose(found.std().values[:, 0], [np.sqrt(0.1875), 0.5], rtol=1e-6)
        assert found.quantile(0.5).shape == (2, 1)
        assert found.ess() == pytest.approx(1.6)  # of the worse problem


@pytest.mark.parametrize("n", [8, 40])
@pytest.mark.parametrize("level", [0.5, 0.75, 0.9])
def test_interval_holds_a_new_draw_as_often_as_it_says(n: int, level: float) -> None:
    pixels = 40_000
    draws = torch.randn(n + 1, pixels, generator=generator(n))
    low, high = Posterior.from_draws(draws[:n]).interval(level).values
    inside = ((draws[n].numpy() > low) & (draws[n].numpy() < high)).mean()
    # binomial error 0.0025 (one sd); linear interpolation between order statistics costs up to 0.01 more
    assert inside == pytest.approx(level, abs=0.02)


def test_interval_of_few_draws_is_students() -> None:
    # Of 1, 2, 3, 6: mean 3, variance 14/3 (with n - 1), and t = 2.3534 at 95 % with three degrees of freedom.
    low, high = Posterior.from_draws(torch.tensor([1.0, 2.0, 3.0, 6.0])[:, None, None, None]).interval(0.9).values
    half = 2.3534 * (14 / 3) ** 0.5 * 1.25**0.5
    assert float(low.item()) == pytest.approx(3 - half, rel=1e-4)
    assert float(high.item()) == pytest.approx(3 + half, rel=1e-4)


def test_interval_of_complex_draws_is_of_the_magnitude() -> None:
    posterior = complex_draws(50)
    low, high = posterior.interval(0.8).values
    assert (low <= high).all() and (low > -0.5).all()
    with pytest.raises(InputError, match="level"):
        posterior.interval(1.5)


def test_a_file_comes_back(tmp_path: Path) -> None:
    posterior = complex_draws()
    path = posterior.save(tmp_path / "a.nc")
    back = Posterior.load(path)
    np.testing.assert_array_equal(back.draws.values, posterior.draws.values)
    assert back.draws.dims == posterior.draws.dims
    assert back.dataset["y"].attrs["units"] == "mm"
    assert back.dataset.attrs["seed"] == 3
    assert back.diagnostics == posterior.diagnostics
    assert [p.name for p in tmp_path.iterdir()] == ["a.nc"]


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="a.png"):
        complex_draws().save(tmp_path / "a.png")
    with pytest.raises(FileError, match="does not exist"):
        Posterior.load(tmp_path / "none.nc")
    (tmp_path / "text.nc").write_text("hello")
    with pytest.raises(FormatError, match="text.nc"):
        Posterior.load(tmp_path / "text.nc")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot write"):
        complex_draws().save(tmp_path / "file" / "a.nc")


def test_apply_gives_the_posterior_of_a_derived_quantity() -> None:
    posterior = complex_draws()
    energy = posterior.apply(lambda x: (abs(x) ** 2).sum())
    np.testing.assert_allclose(energy.values, (np.abs(posterior.draws.values) ** 2).sum((1, 2, 3)), rtol=1e-5)


def test_one_draw_has_no_spread() -> None:
    assert np.isnan(Posterior.from_draws(torch.ones(1, 3)).std().values).all()
