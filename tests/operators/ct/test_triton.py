"""The GPU projector: run by Triton's interpreter where there is no GPU, and on the GPU where there is one."""

import math
import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from invdiff.operators.ct import ConeCT, FanCT, ParallelCT, joseph
from invdiff.validation.operator_suite import check_operator

ANGLES = torch.tensor([0.2, 1.3], dtype=torch.float64)
CONE: dict[str, Any] = {"source_axis": 15.0, "source_detector": 22.0, "truncated": True}
OPERATORS = {
    "parallel": lambda b: ParallelCT((6, 7), ANGLES, 14, pixel_size=(1.0, 0.9), backend=b),
    "tilted parallel": lambda b: ParallelCT((4, 6, 7), ANGLES, (6, 14), detector_tilt=0.1, backend=b),
    "curved fan": lambda b: FanCT((6, 7), ANGLES, 14, curved=True, backend=b, **CONE),
    "helix": lambda b: ConeCT((4, 6, 5), ANGLES, (6, 9), detector_tilt=0.1, z=ANGLES / 9, backend=b, **CONE),
    "open cone": lambda b: ConeCT((8, 6, 5), ANGLES, (6, 9), detector_spacing=(9.0, 1.3), backend=b, **CONE),
}


def compare(device):
    """Largest relative difference of Triton's kernels from plain torch, single and double precision."""
    from invdiff.operators.ct import joseph_triton

    worst = {torch.float32: 0.0, torch.float64: 0.0}
    for make in OPERATORS.values():
        g = make("torch").geometry
        for dtype in worst:
            x = torch.randn(2, *g.shape, dtype=dtype).to(device)
            y = torch.randn(2, g.views, g.rows, g.channels, dtype=dtype).to(device)
            pairs = [
                (joseph_triton.forward(x, g), joseph.forward(x, g, "torch")),
                (joseph_triton.adjoint(y, g), joseph.adjoint(y, g, "torch")),
            ]
            for found, expected in pairs:
                worst[dtype] = max(worst[dtype], float((found - expected).norm() / expected.norm()))
            gap = (pairs[0][0] * y).sum() - (x * pairs[1][0]).sum()
            assert abs(float(gap)) < 1e-6 * float(pairs[0][0].norm() * y.norm())
    assert worst[torch.float32] < 1e-6 and worst[torch.float64] < 1e-8, worst  # positions have 32 bits after the point


def test_the_kernels_are_right_when_interpreted():
    pytest.importorskip("triton", reason="Triton is not installed (it comes with CUDA builds of torch)")
    # A process of its own: Triton decides when it is imported whether it compiles or interprets.
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, __file__]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_the_kernels_are_right_on_the_gpu():
    compare("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("name", OPERATORS)
def test_operators_conform_on_the_gpu(name):
    report = check_operator(OPERATORS[name]("auto"))
    assert report.ok, str(report)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_large_cone_on_the_gpu():
    turn = torch.arange(30, dtype=torch.float64) * (2 * math.pi / 30)
    op = ConeCT((64, 64, 64), turn, (96, 120), source_axis=200.0, source_detector=300.0, backend="triton")
    x, y = torch.rand(1, *op.domain_shape, device="cuda"), torch.rand(1, *op.range_shape, device="cuda")
    ax, back = op.forward(x), op.adjoint(y)  # on-the-fly kernels run where the tensors are
    assert abs(float((ax * y).sum() - (x * back).sum())) < 1e-6 * float(ax.norm() * y.norm())


if __name__ == "__main__":
    torch.manual_seed(0)
    compare("cpu")
