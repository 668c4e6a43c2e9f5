"""Training: learns, goes on after an interruption to the same bits, refuses what is not a configuration."""

from pathlib import Path

import pytest
import torch

from invdiff.errors import FileError, InputError
from invdiff.training.config import DataConfig, NetworkConfig, TrainConfig, load_config
from invdiff.training.data import PatchStream, make_pool

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
