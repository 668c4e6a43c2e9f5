"""Training: learns, goes on after an interruption to the same bits, refuses what is not a configuration."""

from pathlib import Path

import pytest
import torch

from invdiff.errors import FileError, FormatError, InputError
from invdiff.priors.adapters.network import positions
from invdiff.training.config import DataConfig, NetworkConfig, TrainConfig, load_config
from invdiff.training.data import PatchStream, PhantomSource, make_pool
from invdiff.training.source import Batch
from invdiff.training.state import warm_start

pytest.importorskip("accelerate", reason="training needs the extra 'train'")

from invdiff.training.run import train  # noqa: E402


def toy(steps: int, **options: object) -> TrainConfig:
    return TrainConfig(
        name="toy",
        data=DataConfig(kinds=["leaves"], pool=8, sizes=[64], patch=16),
        network=NetworkConfig(channels=[16, 16], blocks=1, embedding=16),
        steps=steps,
        batch=4,
        checkpoint_every=4,
        warmup=2,
        mixed_precision="no",
        **options,
    )


def test_images_in_an_absolute_unit_are_not_scaled(tmp_path: Path) -> None:
    config = DataConfig(kinds=["ct"], pool=8, sizes=[64], patch=64, texture=0, water=0.4)
    source = PhantomSource(config, "real", 0, tmp_path)
    assert source.card["units"] == {"kind": "HU", "water": 0.4}
    pool = make_pool(config, 0, 8, tmp_path)[0].float()
    for patch in source.batch(3, 6).x[:, 0]:  # the whole image, turned or mirrored
        assert min(float((patch.sum() - x.sum()).abs()) for x in pool) < 1e-2
        assert min(abs(float(patch.max() - x.max())) for x in pool) < 1e-6


class Ramps:
    """Complex ramps in random directions, made at once."""

    domain, channels = "complex", 2
    card: dict[str, object] = {"units": None}

    def __init__(self, position: bool = False) -> None:
        self.conditions = 2 * position
        self.card = {"units": None, "condition": {"kind": "position"}} if position else {"units": None}

    def batch(self, step: int, n: int) -> Batch:
        rng = torch.Generator().manual_seed(step)
        x = torch.randn(n, 2, 1, 1, generator=rng) * torch.linspace(-1, 1, 16) + torch.zeros(n, 2, 16, 16)
        return Batch(x, positions((16, 16)).expand(n, -1, -1, -1) if self.conditions else None)

    held_out = batch


def silent(text: str) -> None:
    del text


def test_a_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    whole = load_file(train(toy(8), tmp_path / "whole", silent, progress=False))

    class Stop(Exception):
        pass

    def stop(text: str) -> None:
        if text.startswith("step 4"):
            raise Stop

    with pytest.raises(Stop):
        train(toy(8), tmp_path / "parts", stop, progress=False)
    notes: list[str] = []
    parts = load_file(train(toy(8), tmp_path / "parts", notes.append, progress=False))
    assert notes[0] == "going on from step 4"
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name
    with pytest.raises(FileError, match="network"):
        other = toy(8)
        other.network.channels = [16, 32]
        train(other, tmp_path / "parts", silent, progress=False)


@pytest.mark.parametrize(
    "options",
    [
        {"objective": "flow", "noise_levels": "uniform-time"},
        {"balance": "uncertainty", "intervals": 3},
        {"balance": "pcgrad", "intervals": 3},
        {"mixed_precision": "bf16", "name": "position"},
    ],
    ids=["flow", "uncertainty", "pcgrad", "position"],
)
def test_every_option_trains_and_resumes_to_the_same_bits(tmp_path: Path, options: dict[str, object]) -> None:
    from safetensors.torch import load_file

    from invdiff.priors.loading import load_prior

    config, source = toy(8).model_copy(update=options), Ramps(options.get("name") == "position")
    whole = train(config, tmp_path / "whole", silent, False, source)

    class Stop(Exception):
        pass

    def stop(text: str) -> None:
        if text.startswith("step 4"):
            raise Stop

    with pytest.raises(Stop):
        train(config, tmp_path / "parts", stop, False, source)
    parts = train(config, tmp_path / "parts", silent, False, source)
    for name, value in load_file(whole).items():
        assert torch.equal(value, load_file(parts)[name]), name
    prior = load_prior(whole)
    x = torch.randn(2, 1, 20, 24, dtype=torch.complex64)
    assert prior.denoise(x, torch.tensor([0.3])).shape == x.shape


@pytest.mark.parametrize("balance", ["uncertainty", "pcgrad"])
@pytest.mark.parametrize("objective", ["edm", "flow"])
def test_it_learns(tmp_path: Path, balance: str, objective: str) -> None:
    import json

    class Stripes:
        channels, conditions, domain = 1, 0, "real"
        card: dict[str, object] = {"units": None}

        def batch(self, step: int, n: int) -> Batch:
            rng = torch.Generator().manual_seed(step)
            sign = torch.randint(2, (n, 1, 1, 1), generator=rng) * 2.0 - 1
            return Batch(sign * torch.linspace(-1, 1, 8).sign() * torch.ones(n, 1, 8, 8))

        held_out = batch

    config = toy(120, balance=balance, objective=objective, domain="real", learning_rate=5e-3, validate_every=60)
    config = config.model_copy(update={"log_sigma_mean": -0.5, "ema": 0.9, "checkpoint_every": 1000})
    train(config, tmp_path / "run", silent, progress=False, source=Stripes())
    history = json.loads((tmp_path / "run" / "validation.json").read_text())
    assert list(history) == ["60", "120"]
    # a pixel of +-1 in noise of deviation 1: E[x0|x] of each alone leaves 0.42 (3.8 dB), of all together almost nothing
    assert history["120"]["1.0"] > 9
    for picture in ("validation.png", "samples.png"):
        assert (tmp_path / "run" / picture).stat().st_size > 5000


def test_a_start_from_weights_with_fewer_channels(tmp_path: Path) -> None:
    from invdiff.networks.build import denoiser

    shape = {"type": "UNet", "channels": [16, 16], "blocks": 1, "embedding": 16}
    first = train(toy(2), tmp_path / "first", silent, False, Ramps())
    told = denoiser(shape, 2, 2, "edm", 0.4)
    warm_start(told.backbone, str(first))
    plain = denoiser(shape, 2, 0, "edm", 0.4)
    warm_start(plain.backbone, str(first))
    x, level, where = torch.randn(3, 2, 16, 16), torch.full((3,), 0.3), torch.randn(3, 2, 16, 16)
    torch.testing.assert_close(told(x, level, where), plain(x, level))  # what is new starts at nothing
    with pytest.raises(FormatError, match="same architecture"):
        warm_start(denoiser({**shape, "channels": [16]}, 2, 0, "edm", 0.4).backbone, str(first))
    with pytest.raises(FileError, match="no weights"):
        warm_start(plain.backbone, "none-such")


def test_patches_are_reproducible_and_differ() -> None:
    stream = PatchStream([torch.rand(4, 40, 40).half(), torch.rand(5, 20, 20).half()], 16, "complex", 0)
    assert torch.equal(stream.batch(3, 5), stream.batch(3, 5))
    assert not torch.equal(stream.batch(3, 5), stream.batch(4, 5))
    assert stream.batch(0, 5).shape == (5, 2, 16, 16)
    assert PatchStream(stream.images, 16, "real", 0).batch(0, 5).shape == (5, 1, 16, 16)


def test_the_pool_is_kept(tmp_path: Path) -> None:
    data = DataConfig(kinds=["leaves"], pool=8, sizes=[64], patch=16)
    first = make_pool(data, 0, 8, tmp_path)
    (file,) = tmp_path.iterdir()
    before = file.stat().st_mtime_ns
    assert torch.equal(make_pool(data, 0, 8, tmp_path)[0], first[0])
    assert file.stat().st_mtime_ns == before
    assert not torch.equal(make_pool(data, 1, 8, tmp_path)[0], first[0])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: a\nstepz: 3\n", "stepz"),
        ("name: a\nsteps: 0\n", "steps"),
        ("name: a\ndata: {kinds: [cats]}\n", "kinds"),
        ("name: [", "YAML"),
        ("- 1\n", "whole file"),
    ],
)
def test_wrong_configurations_name_the_field(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=says):
        load_config(str(path))


def test_shipped_configurations_load() -> None:
    assert load_config("mri").domain == "complex"
    assert load_config("tiny").steps <= 1000
    with pytest.raises(FileError, match="mri, tiny"):
        load_config("none-such")
