"""The public door: `invdiff.sample`, its chunks, seeds, checkpoints and refusals."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import invdiff
from invdiff.errors import DTypeError, FileError, InputError, InvdiffError, ShapeError, UnknownNameError
from invdiff.guidance import DDS
from invdiff.noise import Gaussian
from invdiff.operators.matrix import Identity, Matrix
from invdiff.priors.base import CallablePrior, Prior, Units, as_prior
from invdiff.priors.slices import SlicePrior
from invdiff.random import generator
from invdiff.samplers.guided import Guided
from invdiff.schedules import ddpm, karras
from invdiff.solvers import DDIM, State
from invdiff.units import rescale

D = 6


def denoise(x: Tensor, sigma: Tensor) -> Tensor:
    return x / (1 + sigma**2)


@pytest.fixture
def measurement() -> invdiff.Measurement:
    rng = generator(1)
    a = torch.randn(3, D, generator=rng)
    return invdiff.Measurement(torch.randn(3, generator=rng), Matrix(a), Gaussian(0.2))


def draw(measurement: invdiff.Measurement, **options: object) -> np.ndarray:
    settings = {"sampler": "dds", "nfe": 8, "draws": 5, "progress": False} | options
    return invdiff.sample(measurement, denoise, **settings).draws.values  # type: ignore[arg-type]


def test_the_call_in_the_readme() -> None:
    a, y = torch.randn(3, 10), torch.randn(3)
    posterior = invdiff.sample(
        invdiff.Measurement(y=y, operator=invdiff.operators.Matrix(a), noise=invdiff.noise.Gaussian(0.1)),
        prior=denoise,
        sampler="dds",
        draws=64,
        seed=0,
    )
    assert isinstance(posterior, invdiff.Posterior)
    assert posterior.draws.shape == (64, 10)
    assert posterior.diagnostics["nfe"] == 50


@pytest.mark.parametrize("sampler", ["dds", "mmps", "pigdm", "diffpir", "dps"])
def test_draws_do_not_depend_on_the_chunks(measurement: invdiff.Measurement, sampler: str) -> None:
    whole = draw(measurement, sampler=sampler)
    np.testing.assert_array_equal(draw(measurement, sampler=sampler), whole)
    for batch in (1, 2):
        np.testing.assert_allclose(draw(measurement, sampler=sampler, batch=batch), whole, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(draw(measurement, sampler=sampler, draws=3), whole[:3], rtol=1e-5, atol=1e-5)
    assert not np.allclose(draw(measurement, sampler=sampler, seed=1), whole, atol=0.1)


def test_draws_thrown_away_are_paid_for_by_the_others(measurement: invdiff.Measurement) -> None:
    cost = {
        n: invdiff.sample(measurement, denoise, "smc", n, nfe=16, progress=False).diagnostics["nfe"] for n in (4, 8, 16)
    }
    assert cost == {4: 32, 8: 16, 16: 16}  # populations make eight draws


def test_problems_of_a_batch_are_what_they_are_alone() -> None:
    y = torch.randn(3, D, generator=generator(2))
    batch = invdiff.Measurement(y, Identity((D,)), Gaussian(0.3), batched=True)
    posterior = invdiff.sample(batch, denoise, "mmps", draws=200, nfe=20, solver="heun", progress=False)
    assert posterior.draws.dims == ("draw", "problem", "component")
    exact = y / (1 + 0.09)
    # posterior standard deviation 0.29; the mean of 200 draws is known to 0.02; four of them, and the grid's error
    np.testing.assert_allclose(posterior.mean().values, exact.numpy(), atol=0.1)


class _Stop(Exception):
    pass


@pytest.mark.parametrize("batch", [2, 5])
@pytest.mark.parametrize("solver", ["ddim", "dpmpp2m-sde"])
def test_an_interrupted_run_goes_on_to_the_same_bits(
    measurement: invdiff.Measurement, tmp_path: Path, batch: int, solver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from invdiff.engine.checkpoint import Checkpoint

    keep = Checkpoint.keep

    def always(self: Checkpoint, *arguments: Any) -> None:
        self.last = -1e9
        keep(self, *arguments)

    monkeypatch.setattr(Checkpoint, "keep", always)
    options = {"batch": batch, "solver": solver}
    whole = draw(measurement, **options)
    folder = tmp_path / "out.ckpt"
    seen = []

    def watch(state: State, part: invdiff.Measurement) -> None:
        seen.append(state.step)
        if len(seen) == 12 or (batch == 5 and len(seen) == 5):
            raise _Stop

    with pytest.raises(_Stop):
        draw(measurement, **options, checkpoint=folder, watch=watch)
    assert folder.is_dir()
    with pytest.raises(FileError, match="resume"):
        draw(measurement, **options, checkpoint=folder)
    with pytest.raises(FileError, match="other options"):
        draw(measurement, **options, checkpoint=folder, resume=True, seed=3)
    with monkeypatch.context() as later, pytest.raises(FileError, match="versions"):
        later.setattr(invdiff, "__version__", "9.0.0")
        draw(measurement, **options, checkpoint=folder, resume=True)
    steps: list[int] = []
    again = invdiff.sample(
        measurement, denoise, "dds", 5, nfe=8, progress=False, checkpoint=folder, resume=True,
        watch=lambda s, m: steps.append(s.step), batch=batch, solver=solver,
    )  # fmt: skip
    np.testing.assert_array_equal(again.draws.values, whole)
    assert again.diagnostics["nfe"] == 8, "the cost is that of the whole run, not of its last part"
    assert len(steps) < 8 * -(-5 // batch), "nothing was taken from the checkpoint"
    assert not folder.exists()


def test_a_run_is_not_continued_under_another_guidance(measurement: invdiff.Measurement, tmp_path: Path) -> None:
    def under(iterations: int, grid: Any = karras) -> Guided:
        return Guided(partial(DDS, iterations=iterations), DDIM(1.0), 8, grid=grid)

    def watch(state: State, part: invdiff.Measurement) -> None:
        raise _Stop

    folder = tmp_path / "o.ckpt"
    with pytest.raises(_Stop):
        draw(measurement, sampler=under(2), nfe=None, checkpoint=folder, watch=watch)
    for other in (under(3), under(2, ddpm), under(2, partial(ddpm, power=0.5))):
        with pytest.raises(FileError, match="other options"):
            draw(measurement, sampler=other, nfe=None, checkpoint=folder, resume=True)
    op, noise = measurement.operator, measurement.noise
    for model in ((op, Gaussian(0.3)), (op, Gaussian(torch.full((3,), 0.2))), (Matrix(2.0 * op.matrix), noise)):  # type: ignore[attr-defined]
        with pytest.raises(FileError, match="other options"):
            draw(invdiff.Measurement(measurement.y, *model), sampler=under(2), nfe=None, checkpoint=folder, resume=True)
    again = draw(measurement, sampler=under(2), nfe=None, checkpoint=folder, resume=True)
    np.testing.assert_array_equal(again, draw(measurement, sampler=under(2), nfe=None))


def test_a_damaged_checkpoint_is_named(measurement: invdiff.Measurement, tmp_path: Path) -> None:
    folder = tmp_path / "o.ckpt"

    def watch(state: State, part: invdiff.Measurement) -> None:
        if state.step == 2 and (folder / "chunk-000000.pt").exists():
            raise _Stop

    with pytest.raises(_Stop):
        draw(measurement, batch=2, checkpoint=folder, watch=watch)
    (folder / "chunk-000000.pt").write_bytes(b"no")
    with pytest.raises(FileError, match="chunk-000000"):
        draw(measurement, batch=2, checkpoint=folder, resume=True)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"draws": 0}, InputError, "draws"),
        ({"sampler": "ddss"}, UnknownNameError, "dds"),
        ({"solver": "newton"}, UnknownNameError, "heun"),
        ({"nfe": 0}, InputError, "nfe"),
        ({"seed": 0.5}, InputError, "seed"),
        ({"batch": 0}, InputError, "batch"),
        ({"device": "cuda:77"}, InputError, "not available"),
        ({"device": "toaster"}, InputError, "toaster"),
    ],
)
def test_absurd_options_are_refused(
    measurement: invdiff.Measurement, options: dict[str, object], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        draw(measurement, **options)


def test_a_prior_that_does_not_fit_is_refused(measurement: invdiff.Measurement) -> None:
    with pytest.raises(ShapeError, match="denoiser returned"):
        invdiff.sample(measurement, lambda x, sigma: x[:, :2], progress=False)
    with pytest.raises(DTypeError, match="callable"):
        invdiff.sample(measurement, 3, progress=False)
    with pytest.raises(InvdiffError, match="NaN"):
        invdiff.sample(measurement, lambda x, sigma: x * float("nan"), progress=False)
    with pytest.raises(DTypeError, match="complex"):
        invdiff.sample(measurement, CallablePrior(denoise, domain="complex"), progress=False)


@pytest.mark.parametrize("factor", [1e-4, 1.0, 300.0])
@pytest.mark.parametrize("domain", ["real", "complex"])
def test_the_scale_of_a_bare_callable_is_measured(factor: float, domain: str) -> None:
    prior = CallablePrior(lambda x, sigma: 2 * factor + (x - 2 * factor) / (1 + (sigma / factor) ** 2))
    prior.check((50,), domain)
    assert prior.scale == pytest.approx(factor, rel=0.05)
    assert prior.domain == domain


def test_units_rescale_the_measurement_and_nothing_else() -> None:
    class InUnits(Prior):
        units = Units(quantile=0.5, value=3.0)

    x = torch.linspace(1, 2, 101)
    m = invdiff.Measurement(x, Identity((101,)), Gaussian(0.1))
    scaled, factor = rescale(m, InUnits())
    assert factor == pytest.approx(2.0, rel=1e-4)
    torch.testing.assert_close(scaled.y, 2 * x, rtol=1e-4, atol=0)
    assert scaled.noise.sigma == pytest.approx(0.2, rel=1e-4)  # type: ignore[attr-defined]
    torch.testing.assert_close(scaled.chi2(2 * x[None] + 0.1), m.chi2(x[None] + 0.05), rtol=1e-3, atol=0)
    with pytest.raises(InputError, match="zero"):
        rescale(invdiff.Measurement(0 * x, Identity((101,)), Gaussian(0.1)), InUnits())
    assert as_prior(InUnits()).units is not None


@pytest.mark.parametrize("sampler", ["dds", "mmps", "dps"])
def test_draws_are_zero_where_no_coil_sees(sampler: str) -> None:
    maps = torch.ones(2, 4, 4, dtype=torch.complex64)
    maps[:, :, 3] = 0
    op = invdiff.operators.MRI(maps, torch.ones(4, dtype=torch.bool))
    y = op.forward(torch.ones(1, 1, 4, 4, dtype=torch.complex64))[0]
    m = invdiff.Measurement(y, op, Gaussian(0.01))
    draws = invdiff.sample(m, denoise, sampler, 2, nfe=20, progress=False).draws.values
    assert (draws[..., 3] == 0).all()
    assert np.abs(draws[..., :3]).min() > 0.5


def slices_of_a_volume() -> tuple[invdiff.Measurement, Prior, int]:
    """A volume whose slices have 64 x 64 pixels, and a budget that holds a draw, and slices without their gradient."""
    plane = CallablePrior(lambda x, sigma: x / (1 + sigma.reshape(-1, 1, 1, 1) ** 2), "real", 0.01, 10.0, 1.0)
    volume = Identity((1, 2, 64, 64))
    measurement = invdiff.Measurement(torch.zeros(1, 2, 64, 64), volume, Gaussian(1.0))
    return measurement, SlicePrior(plane), (700 << 20) + (16 << 20)


def test_memory_counts_draws_and_gradients_of_volumes() -> None:
    measurement, prior, memory = slices_of_a_volume()
    invdiff.sample(measurement, prior, "dds", 1, nfe=2, memory=memory, progress=False)
    with pytest.raises(InputError, match="for its data and draws"):
        invdiff.sample(measurement, prior, "dds", 100, nfe=2, memory=memory, progress=False)
    with pytest.raises(InputError, match="memory is"):
        invdiff.sample(measurement, prior, "mmps", 1, nfe=2, memory=memory, progress=False)
