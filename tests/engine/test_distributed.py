"""Draws made by worker processes on this machine, one of which is killed while it works."""

import os
import signal
import time
from typing import Any

import pytest
import torch

import invdiff
from invdiff.engine.checkpoint import Checkpoint
from invdiff.engine.distributed import connect, run_distributed
from invdiff.engine.run import run
from invdiff.errors import InputError
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.matrix import Matrix
from invdiff.priors.base import CallablePrior
from invdiff.samplers.named import sampler

pytest.importorskip("distributed")
CPU = torch.device("cpu")


def slow(seconds):
    """A prior N(0, I) that takes its time; a function within a function, so that it is sent as it is."""

    def denoise(x, sigma):
        time.sleep(seconds)
        return x / (1 + sigma**2)

    return CallablePrior(denoise, sigma_min=2e-3, sigma_max=40.0, scale=1.0)


@pytest.fixture
def measurement():
    rng = torch.Generator().manual_seed(0)
    matrix = torch.randn(3, 6, generator=rng)
    return Measurement(torch.randn(3, generator=rng), Matrix(matrix), Gaussian(0.1))


def test_a_killed_worker_costs_only_its_chunk(measurement, tmp_path):
    made = sampler("dds", 10)
    serial = run(made, slow(0.0), measurement, 6, 0, CPU, 2, progress=False)
    killed: list[int] = []
    with connect(2, None) as client:
        pids = client.run(os.getpid)
        assert set(client.run(os.environ.get, "MALLOC_TRIM_THRESHOLD_").values()) == {str(10**10)}  # they keep memory

        class Killing(Checkpoint):
            def finish(self, first, *found):
                super().finish(first, *found)
                if not killed:  # one chunk is done, the other worker is in the middle of one
                    busy = [worker for worker, tasks in client.processing().items() if tasks]
                    killed.append(pids[busy[0]])
                    os.kill(killed[0], signal.SIGKILL)

        keeper = Killing(tmp_path / "c.ckpt", {}, resume=False)
        x, cost, weights = run_distributed(
            client, made, slow(0.1), measurement, 6, 0, CPU, 2, progress=False, checkpoint=keeper
        )
        assert killed[0] not in client.run(os.getpid).values()  # it is dead, and another took its place or its work
    assert torch.equal(x, serial[0]) and cost == serial[1] == (10, 0, 0, 0) and weights is None
    assert len(list((tmp_path / "c.ckpt").glob("chunk-*"))) == 3


def test_sample_with_workers_gives_the_same_bits(measurement, capsys):
    options: dict[str, Any] = {"sampler": "mmps", "draws": 4, "nfe": 5, "batch": 2, "device": "cpu"}
    alone = invdiff.sample(measurement, slow(0.0), progress=False, **options)
    shared = invdiff.sample(measurement, slow(0.0), workers=1, **options)
    assert alone.draws.values.tobytes() == shared.draws.values.tobytes()
    assert "http://127.0.0.1:" in capsys.readouterr().err  # where to watch it


def test_wrong_addresses_are_refused():
    with pytest.raises(InputError, match="does not answer"), connect(None, "tcp://127.0.0.1:9"):
        pass
    for workers, scheduler in ((None, None), (2, "tcp://127.0.0.1:9"), (0, None)):
        with pytest.raises(InputError), connect(workers, scheduler):
            pass
