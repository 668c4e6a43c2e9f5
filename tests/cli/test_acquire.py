import json
from pathlib import Path

import numpy as np
import pytest
import torch

from invdiff.acquisition import Subject, acquire, from_file
from invdiff.datasets.phantoms import head_phantom
from invdiff.errors import FormatError, InputError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.mri.sense import MRI
from invdiff.policies import Recorded
from invdiff.posterior import Posterior
from invdiff.priors.loading import load_prior
from invdiff.samplers.active import load_order

FAST = ("--draws", 4, "--nfe", 4, "--inner", 2)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "slice.npy"
    np.save(path, head_phantom(torch.Generator().manual_seed(0), 48).double().numpy())
    return path


def test_acquire_compares_and_keeps_its_mask(tmp_path: Path, call, image: Path, prior: Path) -> None:
    files = {"--json": "a.json", "--mask": "lines.npz", "--png": "order.png", "-o": "a.nc", "--data": "a.h5"}
    where = [part for option, name in files.items() for part in (option, tmp_path / name)]
    result = call(
        "acquire", image, "--size", 32, "--acceleration", 4, "--policy", "entropy", "--prior", prior,
        "--compare", "random,equispaced,density,fixed,oracle", *FAST, *where,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(files.values())
    figures = json.loads((tmp_path / "a.json").read_text())
    names = {"entropy", "random", "equispaced", "density", "fixed", "oracle"}
    assert all(set(figures[key]) == names for key in ("nmse", "ssim", "entropy"))
    assert len(figures["lines"]) == figures["budget"] == 8 and set(figures["lines"][:2]) <= {15, 16, 17}
    assert figures["seconds_per_decision"] > figures["policy_seconds"] > 0
    assert figures["nfe"]["random"] == 4 and figures["nfe"]["entropy"] == 4 + 5 * 2 + 4
    assert (tmp_path / "order.png").read_bytes().startswith(b"\x89PNG")
    assert load_order(tmp_path / "lines.npz") == figures["lines"]
    found = Posterior.load(tmp_path / "a.nc")
    assert found.draws.shape == (4, 1, 32, 32) and found.dataset.attrs["policy"] == "entropy"
    data = Measurement.load(tmp_path / "a.h5")
    assert data.operator.range_mask is not None
    assert int(torch.broadcast_to(data.operator.range_mask, (1, 32, 32))[0, 0].sum()) == 8
    done = call("reconstruct", tmp_path / "a.h5", "-o", tmp_path / "r.nc", "--prior", prior, "--method", "dds",
                "--nfe", 4, "--draws", 2)  # fmt: skip
    assert done.exit_code == 0, done.output
    # A mask that was kept is a fixed plan: the same lines, so the same draws.
    again = call(
        "acquire", image, "--size", 32, "--acceleration", 4, "--prior", prior, "--policy", tmp_path / "lines.npz",
        "--json", tmp_path / "b.json", *FAST,
    )  # fmt: skip
    assert again.exit_code == 0, again.output
    repeated = json.loads((tmp_path / "b.json").read_text())
    assert repeated["nmse"] == {"lines": figures["nmse"]["entropy"]} and repeated["lines"] == figures["lines"]


def test_masks_are_taken_as_they_are(tmp_path: Path, call, image: Path, prior: Path) -> None:
    for folder, groups in (("a", range(12, 20)), ("b", range(8))):
        (tmp_path / folder).mkdir()
        np.savez(tmp_path / folder / "random.npz", order=list(groups), mask=np.isin(np.arange(32), groups)[None, None])
    a, b = (tmp_path / k / "random.npz" for k in "ab")
    common = ("acquire", image, "--prior", prior, *FAST)
    result = call(*common, "--size", 32, "--policy", a, "--compare", f"random,{b}", "--json", tmp_path / "j.json")
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "j.json").read_text())
    assert figures["lines"] == list(range(12, 20)) and figures["budget"] == 8  # not the 4 of the usual 8x
    assert set(figures["nmse"]) == {"random", "random (policy)", str(b)}
    for options, words in (
        (("--size", 40, "--policy", a), "made for another size"),
        (("--size", 32, "--axis", "rows", "--policy", a), "made for another size"),
        (("--size", 32, "--compare", a), "the budget is 4; compare masks of one size"),
    ):
        result = call(*common, *options)
        assert result.exit_code == 2 and words in " ".join(result.output.split()), result.output


def test_target_ends_the_acquisition(image: Path, prior: Path) -> None:
    subject, model = from_file(image, 32), load_prior(prior)
    done = acquire(
        subject, model, "variance", ["random"], acceleration=1, draws=4, nfe=4, inner=2, target=0.9, progress=False,
    )  # fmt: skip
    few, other = done.runs["variance"], done.runs["random"]
    assert len(few.order) == len(other.order) < 32
    assert done.figures["acceleration"] == 32 / len(few.order)


def test_target_ends_a_mask_of_an_earlier_run(tmp_path: Path, image: Path, prior: Path) -> None:
    order = [15, 16, 14, 17, 13, 18, 12, 19, 3, 28, 9, 22]
    np.savez(tmp_path / "mask.npz", order=order, mask=np.isin(np.arange(32), order)[None, None])
    done = acquire(
        from_file(image, 32), load_prior(prior), str(tmp_path / "mask.npz"), ["random"], draws=4, nfe=4, inner=2,
        target=0.9, progress=False,
    )  # fmt: skip
    few = done.runs["mask"].order
    assert few == order[: len(few)] and len(few) == len(done.runs["random"].order) < 12


def test_recording_is_uncovered_line_by_line(prior: Path) -> None:
    # Two coils, and a recording with missing columns: these are never chosen.
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(1, 1, 24, 24, dtype=torch.complex64, generator=rng)
    maps = 1 + 0.3 * torch.randn(2, 24, 24, dtype=torch.complex64, generator=rng)
    mask = torch.arange(24) % 3 > 0
    op = MRI(maps, mask)
    y = Gaussian(0.05).sample(op.forward(x), rng)[0] * mask
    subject = Subject(Recorded(Measurement(y, op, Gaussian(0.05))), x[0], {})
    done = acquire(subject, load_prior(prior), acceleration=2, draws=4, nfe=4, inner=2, progress=False)
    order = done.runs["entropy"].order
    assert len(order) == 8 and all(g % 3 > 0 for g in order)


def test_kspace_file_is_replayed(call, kspace: Path, prior: Path, tmp_path: Path) -> None:
    result = call(
        "acquire", kspace, "--acceleration", 2, "--prior", prior, "--json", tmp_path / "a.json", "--compare",
        "lowfrequency", *FAST,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "a.json").read_text())
    assert figures["simulated"] is False and set(figures["nmse"]) == {"entropy", "lowfrequency"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--policy", "entropie"), "no policy"),
        (("--compare", "random,foxed"), "no policy"),
        (("--axis", "z"), "columns or rows"),
        (("--mode", "offline"), "no mode"),
        (("--mask", "lines.txt"), "must end in .npz"),
        (("--initial", 30, "--acceleration", 4), "of a budget of 8"),
        (("--policy", "absent.npz"), "does not exist"),
        (("--slice", 3), "is one image"),
    ],
)
def test_mistakes_are_one_line(call, image: Path, prior: Path, options: tuple, words: str) -> None:
    result = call("acquire", image, "--size", 32, "--prior", prior, *FAST, *options)
    assert result.exit_code == 2 and words in result.output, result.output
    assert result.output.strip().splitlines()[-1].startswith("error:")


def test_image_is_checked(tmp_path: Path) -> None:
    np.save(tmp_path / "zero.npy", np.zeros((32, 32)))
    with pytest.raises(InputError, match="zero nearly everywhere"):
        from_file(tmp_path / "zero.npy")
    np.save(tmp_path / "words.npy", np.full((32, 32), "a"))
    with pytest.raises(FormatError, match="holds <U1; an image of numbers"):
        from_file(tmp_path / "words.npy")
    np.save(tmp_path / "foreign.npy", np.eye(32, dtype=">f8"))
    assert from_file(tmp_path / "foreign.npy").reference.shape == (1, 32, 32)
    with pytest.raises(InputError, match="at least 16"):
        from_file(tmp_path / "zero.npy", 8)
