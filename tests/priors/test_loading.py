"""Shipped and user-given weights."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import invdiff
from invdiff.errors import DTypeError, FileError, FormatError, ShapeError
from invdiff.networks.unet import UNet
from invdiff.priors.adapters import NetworkPrior
from invdiff.priors.base import Hounsfield, Units
from invdiff.priors.loading import shipped_priors

SHAPE = {"channels": [16, 16], "blocks": 1, "embedding": 16, "fold": 2}
CARD = {
    "name": "toy",
    "domain": "complex",
    "architecture": {"type": "UNet", **SHAPE},
    "sigma_data": 0.4,
    "sigma_min": 0.01,
    "sigma_max": 5.0,
    "units": {"kind": "relative", "quantile": 0.99, "value": 0.8},
}


def write(path: Path, card: object = CARD, **tensors: torch.Tensor) -> Path:
    torch.manual_seed(0)
    weights = UNet(2, 2, **SHAPE).state_dict() | tensors  # type: ignore[arg-type]
    save_file({k: v.half() for k, v in weights.items()}, path, metadata={"card": json.dumps(card)})
    return path


def test_a_file_becomes_a_prior(tmp_path: Path) -> None:
    prior = invdiff.load_prior(write(tmp_path / "toy.safetensors"))
    assert (prior.domain, prior.scale, prior.sigma_max) == ("complex", 0.4, 5.0)
    assert prior.units == Units(0.99, 0.8)
    assert len(prior.describe()["prior_sha256"]) == 64
    x = torch.randn(3, 1, 9, 10, dtype=torch.complex64)
    assert prior.denoise(x, torch.tensor([0.5])).shape == x.shape
    with pytest.raises(DTypeError, match="complex"):
        prior.check((1, 8, 8), "real")
    with pytest.raises(ShapeError, match="images"):
        prior.check((8,), "complex")


def test_the_ct_prior_knows_hounsfield_units() -> None:
    prior = invdiff.load_prior("ct")
    assert prior.units == Hounsfield(0.4)
    # a disc of fat or of water keeps its value under noise that hides the difference in a pixel (40 HU = 0.016)
    x, y = torch.meshgrid(torch.arange(64) - 32, torch.arange(64) - 32, indexing="ij")
    disc = (x**2 + y**2 < 24**2).float()
    noise = 0.05 * torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    inner = x**2 + y**2 < 18**2
    for value in (0.4, 0.36):
        with torch.inference_mode():
            found = prior.denoise(value * disc[None, None] + noise, torch.tensor([0.05]))
        assert float(found[0, 0, inner].mean()) == pytest.approx(value, abs=0.008)
        assert float((found[0, 0, inner] - value).square().mean().sqrt()) < 0.016


def test_two_channels_are_real_and_imaginary_part() -> None:
    class Probe(torch.nn.Module):
        def forward(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            assert sigma.shape == (x.shape[0],)
            return torch.stack([x[:, 0] * 2, x[:, 1] * 3 + sigma[:, None, None]], 1)

    prior = NetworkPrior(Probe(), "complex", 0.01, 1.0, 1.0)
    x = torch.randn(2, 3, 4, 5, dtype=torch.complex64)  # three sets of maps: each slice on its own
    sigma = torch.tensor([0.1, 0.2])
    expected = torch.complex(2 * x.real, 3 * x.imag + sigma[:, None, None, None])
    torch.testing.assert_close(prior.denoise(x, sigma), expected)


def test_refusals_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="nothing.*shipped"):
        invdiff.load_prior("nothing")
    pickled = tmp_path / "weights.pt"
    pickled.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(FormatError, match="pickled weights are refused"):
        invdiff.load_prior(pickled)
    with pytest.raises(FormatError, match="lacks domain"):
        invdiff.load_prior(write(tmp_path / "a.safetensors", {k: v for k, v in CARD.items() if k != "domain"}))
    save_file({"a": torch.zeros(1)}, tmp_path / "b.safetensors")
    with pytest.raises(FormatError, match="no card"):
        invdiff.load_prior(tmp_path / "b.safetensors")
    with pytest.raises(FormatError, match="do not fit"):
        invdiff.load_prior(write(tmp_path / "c.safetensors", extra=torch.zeros(1)))
    half = write(tmp_path / "d.safetensors").read_bytes()
    (tmp_path / "d.safetensors").write_bytes(half[: len(half) // 2])
    with pytest.raises(FormatError, match="d.safetensors"):
        invdiff.load_prior(tmp_path / "d.safetensors")


def test_shipped_priors_have_whole_cards() -> None:
    folder = Path(invdiff.__file__).parent / "weights"
    assert sum(p.stat().st_size for p in folder.glob("*.safetensors")) <= 12_000_000
    for name, card in shipped_priors().items():
        assert card["name"] == name
        assert card["steps"] > 0 and card["denoising_psnr_db"]
        prior = invdiff.load_prior(name)
        assert prior.units is not None
        measured = card["measured"]  # of these very weights: the hash agrees
        assert measured["real"]["prior"]["mean"].keys() == measured["real"]["bm3d"]["mean"].keys()
        for sigma, psnr in measured["phantoms"]["prior"].items():
            assert psnr > measured["phantoms"]["bm3d"][sigma]


@pytest.mark.parametrize("kind", [MemoryError, RuntimeError])  # the latter where torch cannot map the file
def test_weights_beyond_memory_are_one_of_our_errors(monkeypatch: pytest.MonkeyPatch, kind: type[Exception]) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise kind("Cannot allocate memory (os error 12)")

    for name in ("safetensors.torch.load_file", "safetensors.safe_open"):
        with monkeypatch.context() as patch:
            patch.setattr(name, full)
            with pytest.raises(FileError, match="mri.safetensors does not fit into memory"):
                invdiff.load_prior("mri")
