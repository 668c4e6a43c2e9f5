"""Training from measurements alone: it goes on where it stopped, learns what single measurements do not show."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("accelerate", reason="training needs the extra 'train'")

from invdiff.errors import FileError, InputError, ShapeError
from invdiff.linalg import cg
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators import MRI
from invdiff.operators.imaging.inpainting import Inpainting
from invdiff.priors.gaussian import normal
from invdiff.priors.gaussian_field import GaussianFieldPrior, matern
from invdiff.priors.loading import load_prior
from invdiff.training.config import TrainConfig
from invdiff.training.data_config import MeasurementsConfig
from invdiff.training.field_rounds import field_draws, first_field, fit_field, noise_field, noise_level
from invdiff.training.from_measurements import DrawnImages, read_measurements, train_from_measurements, unit_of

MEAN, SPECTRUM = 0.4 + 0.2j, matern((12, 12), 0.3, 3.0)


def acquisitions(n: int, share: float = 0.5) -> tuple[Measurement, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    x = GaussianFieldPrior(SPECTRUM, MEAN, "complex").sample(n, rng)
    mask = torch.rand(n, 12, 12, generator=rng) < share
    op = MRI(torch.ones(1, 1, 12, 12, dtype=torch.complex64), mask)
    y = op.forward(x)
    y = y + 0.05 * normal(tuple(y.shape), y.dtype, rng) * mask[:, None]
    return Measurement(y, op, Gaussian(0.05), batched=True), x


def settings(**options: object) -> TrainConfig:
    data = MeasurementsConfig(kind="measurements", gaussian_rounds=1, rounds=2, nfe=4)
    network = {"channels": [8, 8], "blocks": 1, "embedding": 8}
    return TrainConfig.model_validate(
        {"name": "em", "data": data, "network": network, "steps": 3, "batch": 4, "mixed_precision": "no", **options}
    )


def centred_fft(x: torch.Tensor) -> torch.Tensor:
    axes = (-2, -1)
    return torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(x, dim=axes), norm="ortho"), dim=axes)


def silent(text: str) -> None:
    del text


def test_draws_under_a_field_are_exact() -> None:
    measurement, _ = acquisitions(1)
    n, op = 120, measurement.operator
    assert isinstance(op, MRI)
    field = GaussianFieldPrior(SPECTRUM, MEAN, "complex")
    draws = torch.cat([field_draws([measurement], field, seed) for seed in range(n)])
    seen = op.mask.reshape(12, 12)
    mean = centred_fft(field.mean)[0]  # Fourier entries are independent: each has its Wiener filter
    gain = torch.where(seen, SPECTRUM / (SPECTRUM + 0.05**2), 0).float()
    values = centred_fft(draws[:, 0])
    expected = mean + gain * (measurement.data.reshape(12, 12) - mean)
    variance = SPECTRUM.float() * (1 - gain)
    error = (values.mean(0) - expected).abs().square() / (2 * variance / n)
    assert float(error.mean()) == pytest.approx(1.0, abs=0.35)  # 144 exponential variates: 4 deviations are 0.33
    spread = values.var(0) / (2 * variance)
    assert float(spread[seen].mean()) == pytest.approx(1.0, abs=0.05)
    assert float(spread[~seen].mean()) == pytest.approx(1.0, abs=0.05)


def test_the_first_field_is_free_of_noise() -> None:
    measurement, _ = acquisitions(250, share=1.0)
    field = first_field([measurement], noise_field([measurement], 0))
    weak = SPECTRUM < 0.05**2
    assert float(field.spectrum[weak].mean()) < float(SPECTRUM[weak].mean()) + 0.1 * 0.05**2
    assert float(field.spectrum.mean()) == pytest.approx(float(SPECTRUM.mean()), rel=0.05)


def test_noise_is_counted_where_there_are_data() -> None:
    for share in (1.0, 0.4):
        measurement, _ = acquisitions(100, share)
        assert noise_level([measurement], 1) == pytest.approx(0.05, rel=0.03)


def test_gaussian_rounds_find_the_spectrum_that_no_measurement_shows() -> None:
    measurement, _ = acquisitions(250)
    blind = float(first_field([measurement], noise_field([measurement], 0)).spectrum.mean())
    prior = fit_field([measurement], 8, 0, silent)
    truth = float(SPECTRUM.mean())
    # what is blind to half of k-space has half of the variance, and takes the mean, seen now and then, for more of it
    assert float(prior.spectrum.mean()) == pytest.approx(truth, rel=0.15)
    assert abs(blind / truth - 1) > 0.2
    low, high = (SPECTRUM > 0.3), (SPECTRUM < 0.02)
    for part in (low, high):
        assert float(prior.spectrum[part].mean()) == pytest.approx(float(SPECTRUM[part].mean()), rel=0.2)


def test_rounds_go_on_where_they_stopped(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    measurement, _ = acquisitions(40)
    whole = train_from_measurements(settings(), tmp_path / "whole", silent, False, [measurement])
    assert load_prior(whole).domain == "complex" and whole.parent.name == "round_2"

    class Stop(Exception):
        pass

    def stop(text: str) -> None:
        if text.startswith("round 1"):
            raise Stop

    with pytest.raises(Stop):
        train_from_measurements(settings(), tmp_path / "parts", stop, False, [measurement])
    first = (tmp_path / "parts" / "round_1" / "em.safetensors").stat().st_mtime_ns
    parts = train_from_measurements(settings(), tmp_path / "parts", silent, False, [measurement])
    assert (tmp_path / "parts" / "round_1" / "em.safetensors").stat().st_mtime_ns == first
    for name, value in load_file(whole).items():
        assert torch.equal(value, load_file(parts)[name]), name
    assert not list((tmp_path / "parts").rglob("draws_*"))  # the sampler's own checkpoints are gone
    with pytest.raises(FileError, match="another configuration"):
        train_from_measurements(settings(steps=4), tmp_path / "parts", silent, False, [measurement])


def test_files_of_measurements_and_refusals(tmp_path: Path) -> None:
    measurement, x = acquisitions(3)
    measurement.save(tmp_path / "a.h5")
    (read,) = read_measurements([str(tmp_path)])
    assert torch.equal(read.y, measurement.y)
    assert unit_of([measurement]) * 10 == pytest.approx(unit_of([_tenth(measurement)]), rel=1e-3)
    with pytest.raises(InputError, match="many"):
        train_from_measurements(settings(), tmp_path / "r", silent, False, [])
    other = Measurement(torch.zeros(1, 4, 4), Inpainting(torch.ones(4, 4, dtype=torch.bool), (1, 4, 4)), Gaussian(1.0))
    with pytest.raises(ShapeError, match="one shape"):
        train_from_measurements(settings(), tmp_path / "r", silent, False, [measurement, other])
    with pytest.raises(InputError, match="expects 'measurements'"):
        train_from_measurements(TrainConfig(name="a"), tmp_path / "r", silent, False, [measurement])
    source = DrawnImages(x, None, 0)
    assert source.batch(0, 4).x.shape == (4, 2, 12, 12) and torch.equal(source.batch(1, 2).x, source.batch(1, 2).x)
    assert DrawnImages(x, 8, 0).held_out(0, 4).x.shape == (4, 2, 8, 8)


def test_the_command_takes_measurement_files(tmp_path: Path) -> None:
    import json

    import yaml
    from typer.testing import CliRunner

    from invdiff.cli import app

    measurement, _ = acquisitions(12)
    (tmp_path / "scans").mkdir()
    measurement.save(tmp_path / "scans" / "a.h5")
    content = settings(data={"kind": "measurements", "paths": [str(tmp_path / "scans")], "rounds": 1, "nfe": 2})
    (tmp_path / "em.yaml").write_text(yaml.safe_dump(content.model_dump(mode="json")))
    words = ["train", str(tmp_path / "em.yaml"), "--out", str(tmp_path / "run"), "--json", str(tmp_path / "j.json")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    card = json.loads((tmp_path / "j.json").read_text())
    assert card["domain"] == "complex" and card["data"]["kind"] == "measurements" and "paths" not in card["data"]


def _tenth(m: Measurement) -> Measurement:
    return Measurement(m.y / 10, m.operator, m.noise, batched=True)


def test_least_squares_of_a_projector_stays_finite() -> None:
    # one step solves it; further ones would amplify rounding along what the mask does not see
    measurement, x = acquisitions(40)
    op = measurement.operator
    assert isinstance(op, MRI)
    found = cg(op.normal, op.adjoint(op.forward(x)), iterations=10)
    torch.testing.assert_close(found, op.normal(x), rtol=1e-4, atol=1e-4)


def test_the_last_round_may_be_longer(tmp_path: Path) -> None:
    from invdiff.priors.loading import card_of

    measurement, _ = acquisitions(40)
    data = MeasurementsConfig(kind="measurements", gaussian_rounds=1, rounds=2, nfe=4, last_steps=5)
    weights = train_from_measurements(settings(data=data), tmp_path, silent, False, [measurement])
    assert card_of(weights)["steps"] == 5
    assert card_of(tmp_path / "round_1" / weights.name)["steps"] == 3
