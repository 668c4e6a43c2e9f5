"""Adapters: each against the definition of its network's convention, at every noise level the network has."""

import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from invdiff.errors import DTypeError, FormatError, InputError, UnknownNameError
from invdiff.priors.adapters import (
    from_azula,
    from_deepinv,
    from_diffusers,
    from_edm,
    from_guided_diffusion,
    from_monai,
    from_score_sde,
    load_weights,
)
from invdiff.priors.adapters.guided_diffusion import alphas_cumprod
from invdiff.priors.adapters.vp import VariancePreserving
from invdiff.priors.affine import Affine
from invdiff.priors.base import as_prior

KINDS = ("epsilon", "v_prediction", "sample")


class Tiny(nn.Module):
    """A network of x and time with random weights, that keeps what it was given."""

    def __init__(self, channels: int = 2, out: int | None = None, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(channels, out or channels, 3, padding=1)
        self.embed = nn.Linear(2, out or channels)
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, time: Tensor, *more: Tensor) -> Tensor:
        self.seen.append((x, time))
        t = time.to(self.conv.weight.dtype)
        e = self.embed(torch.stack([(t / 50).sin(), (t / 300).cos()], 1))
        out = self.conv(x) + e[:, :, None, None]
        return out + sum(m.to(out.dtype).reshape(len(x), -1)[:, :1, None, None] for m in more) if more else out


class Tuple(nn.Module):
    """Answers with a tuple, as diffusers does with return_dict=False."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, t: Tensor) -> tuple[Tensor]:
        return (self.net(x, t),)


def clean_of(kind: str, a: Tensor, s: Tensor, x_t: Tensor, out: Tensor) -> Tensor:
    """The definition: x0 from x_t = a x0 + s n and what the network says."""
    if kind == "epsilon":
        return (x_t - s * out) / a
    return a * x_t - s * out if kind == "v_prediction" else out


def check_every_level(prior, network, a2: Tensor, kind: str, call, tolerance: float = 2e-5) -> None:
    """Compare denoise with the definition at every time of the table, in float64."""
    torch.manual_seed(1)
    base = torch.randn(1, 2, 8, 8, dtype=torch.float64)
    for t in torch.arange(len(a2)).split(100):
        a, s = a2[t].double().sqrt()[:, None, None, None], (1 - a2[t].double()).sqrt()[:, None, None, None]
        x = base + (s / a) * torch.randn(len(t), 2, 8, 8, dtype=torch.float64)
        with torch.no_grad():
            expected = clean_of(kind, a, s, a * x, call(a * x, t))
            found = prior.denoise(x, (s / a).flatten())
        assert found.dtype == torch.float64
        size = 1 + (s / a) * (kind == "epsilon")  # an error of the network's counts sigma times
        assert float(((found - expected).abs() / size).max()) < tolerance


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_guided_diffusion_at_every_level(kind: str, schedule: str) -> None:
    net = Tiny(2, 4).double()
    prior = from_guided_diffusion(net, schedule, 200, predicts=kind)
    a2 = alphas_cumprod(schedule, 200)
    check_every_level(prior, net, a2, kind, lambda x, t: net(x, t.double())[:, :2])
    assert prior.sigma_max == pytest.approx(float(((1 - a2[-1]) / a2[-1]).sqrt()))


def test_guided_diffusion_schedules_are_the_published_ones() -> None:
    # beta from 1e-4 to 0.02 in 1000 steps: the product is 4.036e-5; the cosine one is cut at beta = 0.999
    assert float(alphas_cumprod("linear")[-1]) == pytest.approx(4.0358e-5, rel=1e-3)
    cosine = alphas_cumprod("cosine")
    assert float(cosine[499]) == pytest.approx(0.4923, abs=2e-3)
    assert float(cosine[-1] / cosine[-2]) == pytest.approx(0.001)
    with pytest.raises(UnknownNameError, match="sqrt"):
        alphas_cumprod("sqrt")


def test_times_between_levels_are_interpolated_and_beyond_them_refused() -> None:
    net = Tiny()
    prior = from_guided_diffusion(net, "linear", 100)
    assert isinstance(prior.network, VariancePreserving)
    levels = prior.network.levels.sigmas
    middle = (levels[40] * levels[41]).sqrt()
    with torch.no_grad():
        prior.denoise(torch.randn(1, 2, 4, 4), middle.float()[None])
        assert float(net.seen[-1][1]) == pytest.approx(40.5, abs=1e-4)
        prior.denoise(torch.randn(1, 2, 4, 4), torch.tensor([1e-5]))
        assert float(net.seen[-1][1]) == 0
    with pytest.raises(InputError, match="trained up to"):
        prior.denoise(torch.randn(1, 2, 4, 4), torch.tensor([2 * prior.sigma_max]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["DDPMScheduler", "DDIMScheduler"])
def test_diffusers_unet_at_every_level(kind: str, name: str) -> None:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    net = diffusers.UNet2DModel(
        sample_size=8,
        in_channels=2,
        out_channels=2,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
    ).double()
    scheduler = getattr(diffusers, name)(num_train_timesteps=60, prediction_type=kind, beta_schedule="scaled_linear")
    prior = from_diffusers(SimpleNamespace(unet=net, scheduler=scheduler))
    check_every_level(prior, net, scheduler.alphas_cumprod, kind, lambda x, t: net(x, t).sample)
    # and the library's own step agrees on the clean image
    t = 37
    a2 = scheduler.alphas_cumprod[t]
    x_t = torch.randn(1, 2, 8, 8, dtype=torch.float64)
    scheduler.config.clip_sample = False
    scheduler.set_timesteps(60)
    with torch.no_grad():
        theirs = scheduler.step(net(x_t, t).sample, t, x_t).pred_original_sample
        ours = prior.denoise(x_t / a2.sqrt().double(), ((1 - a2) / a2).sqrt()[None].double())
    torch.testing.assert_close(ours, theirs.double(), rtol=1e-5, atol=1e-5)


def test_diffusers_flow_matching() -> None:
    diffusers = pytest.importorskip("diffusers")
    net = Tiny().double()
    wrapped = Tuple(net)
    prior = from_diffusers(wrapped, diffusers.FlowMatchEulerDiscreteScheduler())
    for t in (0.001, 0.1, 0.5, 0.9, 0.99):
        clean, noise = torch.randn(2, 2, 8, 8, dtype=torch.float64), torch.randn(2, 2, 8, 8, dtype=torch.float64)
        x_t = (1 - t) * clean + t * noise
        with torch.no_grad():
            expected = x_t - t * net(x_t, torch.full((2,), 1000 * t))
            found = prior.denoise(x_t / (1 - t), torch.tensor([t / (1 - t)], dtype=torch.float64))
        torch.testing.assert_close(found, expected)
    with pytest.raises(InputError, match="latent"):
        from_diffusers(SimpleNamespace(unet=net, scheduler=None, vae=object()))
    with pytest.raises(DTypeError, match="scheduler"):
        from_diffusers(net)
    with pytest.raises(InputError, match="SimpleNamespace"):
        from_diffusers(net, SimpleNamespace())


@pytest.mark.parametrize("kind", KINDS)
def test_monai_network_at_every_level(kind: str) -> None:
    from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet
    from monai.networks.schedulers.ddpm import DDPMScheduler
    from monai.networks.schedulers.rectified_flow import RFlowScheduler

    torch.manual_seed(0)
    net = DiffusionModelUNet(2, 2, 2, (1, 1), (8, 8), (False, False), 4, num_head_channels=8).double()
    nn.init.normal_(list(net.out.parameters())[-2], std=0.1)  # it is zero at birth, and a test of zeros shows nothing
    scheduler = DDPMScheduler(num_train_timesteps=50, prediction_type=kind)
    prior = from_monai(net, scheduler)

    def call(x: Tensor, t: Tensor) -> Tensor:
        return net(x, timesteps=t.float())

    check_every_level(prior, net, scheduler.alphas_cumprod, kind, call)
    flow = RFlowScheduler(num_train_timesteps=1000)
    prior = from_monai(net, flow)
    x_t, t = torch.randn(1, 2, 8, 8, dtype=torch.float64), 300
    with torch.no_grad():
        flow.set_timesteps(10)
        _, expected = flow.step(call(x_t, torch.tensor([t])), t, x_t)
        found = prior.denoise(x_t / 0.7, torch.tensor([0.3 / 0.7], dtype=torch.float64))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_edm_network_is_the_denoiser() -> None:
    class Precond(nn.Module):
        """EDM's calling convention: float32 inside, labels as an argument."""

        sigma_min, sigma_max, sigma_data = 0, float("inf"), 0.5

        def __init__(self) -> None:
            super().__init__()
            self.model = Tiny()

        def forward(self, x: Tensor, sigma: Tensor, class_labels: Tensor | None = None) -> Tensor:
            x, sigma = x.float(), sigma.float().reshape(-1, 1, 1, 1)
            skip = self.sigma_data**2 / (sigma**2 + self.sigma_data**2)
            raw = self.model(x * (sigma**2 + self.sigma_data**2).rsqrt(), sigma.log().flatten() / 4)
            offset = 0 if class_labels is None else class_labels[:, 1, None, None, None]
            return skip * x + sigma * skip.sqrt() * raw + offset

    net = Precond()
    prior = from_edm(net, torch.tensor([[0.0, 3.0]]))
    assert (prior.sigma_min, prior.sigma_max, prior.scale) == (0.002, 80.0, 0.5)
    for sigma in (0.002, 0.1, 1.0, 80.0):
        x = torch.randn(3, 2, 8, 8, dtype=torch.float64)
        with torch.no_grad():
            expected = net(x, torch.full((3,), sigma)) + 3
            found = prior.denoise(x, torch.tensor([sigma]))
        assert found.dtype == torch.float64
        torch.testing.assert_close(found, expected.double(), rtol=1e-5, atol=1e-5)


def test_score_sde_continuous_and_discrete() -> None:
    net = Tiny()
    prior = from_score_sde(net, 0.01, 378.0)
    x = torch.randn(2, 2, 8, 8)
    for sigma in (0.01, 0.3, 5.0, 378.0):
        level = torch.full((2,), sigma)
        with torch.no_grad():
            torch.testing.assert_close(prior.denoise(x, level[:1]), x + sigma**2 * net(x, level))
    prior = from_score_sde(net, 0.01, 50.0, discrete_levels=40)
    table = torch.exp(torch.linspace(4.605170186 + 0, 0, 1)) * 0 + torch.logspace(-2, 1.69897, 40)
    for i, sigma in enumerate(table):
        with torch.no_grad():
            expected = x + sigma**2 * net(x, torch.full((2,), 39 - i))
            found = prior.denoise(x, sigma[None])
        assert net.seen[-1][1].tolist() == [39 - i] * 2 and not net.seen[-1][1].is_floating_point()
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_half_precision_networks_keep_the_dtype_of_x() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 1).to(torch.bfloat16)

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            assert x.dtype == torch.bfloat16
            return self.conv(x)

    scheduler = SimpleNamespace(alphas_cumprod=alphas_cumprod("linear", 50), config=SimpleNamespace())
    scheduler.config.prediction_type = "epsilon"
    prior = from_diffusers(Tuple(Half()), scheduler)
    assert prior.denoise(torch.randn(1, 2, 4, 4), torch.tensor([0.5])).dtype == torch.float32
    prior.to(torch.bfloat16)
    assert isinstance(prior.network, VariancePreserving)
    assert prior.network.levels.sigmas.dtype == torch.float64  # the table is not rounded with the weights


def test_complex_images_are_two_channels_of_any_adapter() -> None:
    net = Tiny()
    real, cplx = from_score_sde(net), from_score_sde(net, domain="complex")
    x = torch.randn(2, 1, 8, 8, dtype=torch.complex64)
    pairs = torch.cat([x.real, x.imag], 1)
    with torch.no_grad():
        expected, found = real.denoise(pairs, torch.tensor([0.4])), cplx.denoise(x, torch.tensor([0.4]))
    torch.testing.assert_close(torch.cat([found.real, found.imag], 1), expected)
    with pytest.raises(InputError, match="colour"):
        from_score_sde(net, colour=3)


def test_any_callable() -> None:
    prior = as_prior(lambda x, sigma: x / (1 + sigma**2))
    prior.check((3,), "real")
    assert prior.scale == pytest.approx(1, rel=0.05)


def test_affine_units_are_exact() -> None:
    from invdiff.priors.gaussian import GaussianPrior

    inner = GaussianPrior(torch.tensor([0.1, -0.2]), torch.tensor([[1.0, 0.3], [0.3, 0.5]]))
    outer = GaussianPrior(40 + 1000 * inner.mean, 1000**2 * torch.tensor([[1.0, 0.3], [0.3, 0.5]]))
    prior = Affine(inner, 1000, 40)
    x = torch.tensor([[300.0, -800.0], [0.0, 10.0]])
    for sigma in (3.0, 500.0, 2e4):
        level = torch.tensor([sigma])
        torch.testing.assert_close(prior.denoise(x, level), outer.denoise(x, level), rtol=1e-5, atol=1e-3)
    assert prior.scale == pytest.approx(outer.scale) and prior.sigma_max == pytest.approx(outer.sigma_max)
    with pytest.raises(InputError, match="factor"):
        Affine(inner, 0)


def test_weights_come_in_without_running_code(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    tensors = {"a.weight": torch.randn(2, 3)}
    save_file(tensors, tmp_path / "w.safetensors")
    torch.save({"state_dict": {"module.a.weight": tensors["a.weight"]}, "epoch": 3}, tmp_path / "w.pt")
    for path in ("w.safetensors", "w.pt"):
        found = load_weights(tmp_path / path)
        assert found.keys() == tensors.keys() and torch.equal(found["a.weight"], tensors["a.weight"])
    with (tmp_path / "net.pkl").open("wb") as file:
        pickle.dump({"ema": print}, file)
    with pytest.raises(FormatError, match=r"net\.pkl is refused.*safetensors\.torch\.save_file"):
        load_weights(tmp_path / "net.pkl")

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # type: ignore[return-value]

    torch.save({"model": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(FormatError, match="could run code"):
        load_weights(tmp_path / "trap.pt")
    assert not (tmp_path / "ran").exists()
    torch.save({"step": 3}, tmp_path / "none.pt")
    with pytest.raises(FormatError, match="no tensors"):
        load_weights(tmp_path / "none.pt")


def test_deepinv_and_azula_conventions() -> None:
    net = Tiny()
    x, sigma = torch.randn(2, 2, 8, 8), torch.tensor([0.2])
    with torch.no_grad():
        found = from_deepinv(net, sigma_max=1.0).denoise(x, sigma)
        torch.testing.assert_close(found, net(x, sigma.expand(2)))

    class Denoiser(nn.Module):
        """azula's interface: a schedule t -> (alpha, sigma) and a posterior object."""

        def schedule(self, t: Tensor) -> tuple[Tensor, Tensor]:
            return torch.exp(-2 * t), torch.exp(-4 + 6 * t)

        def forward(self, x_t: Tensor, t: Tensor) -> SimpleNamespace:
            assert t.ndim == 0
            alpha, s = self.schedule(t)
            return SimpleNamespace(mean=alpha * x_t / (alpha**2 + s**2))  # exact for x0 ~ N(0, 1)

    prior = from_azula(Denoiser())
    for level in (0.02, 0.5, 40.0):
        sigma = torch.tensor([level])
        torch.testing.assert_close(prior.denoise(x, sigma), x / (1 + level**2), rtol=2e-5, atol=1e-6)
    two = torch.tensor([0.1, 3.0])
    torch.testing.assert_close(prior.denoise(x, two)[1], x[1] / 10, rtol=2e-5, atol=1e-6)
    with pytest.raises(DTypeError, match="schedule"):
        from_azula(net)


def test_azula_itself() -> None:
    denoise = pytest.importorskip("azula.denoise", reason="azula is an oracle only")
    noise = pytest.importorskip("azula.noise")
    covariance = pytest.importorskip("azula.linalg.covariance")
    mean, variance = torch.tensor(0.3), torch.tensor(0.5)
    theirs = denoise.GaussianDenoiser(mean, covariance.IsotropicCovariance(variance), noise.VPSchedule())
    prior = from_azula(theirs)
    x = torch.randn(2, 5)
    for level in (0.05, 1.0, 20.0):
        expected = mean + variance / (variance + level**2) * (x - mean)
        torch.testing.assert_close(prior.denoise(x, torch.tensor([level])), expected, rtol=1e-4, atol=1e-5)
