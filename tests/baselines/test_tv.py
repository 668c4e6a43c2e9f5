import torch
from torch import Tensor

from invdiff.baselines.problem import Problem
from invdiff.baselines.tv import tv, tv_proximal
from invdiff.measurement import Measurement
from invdiff.noise import Gaussian
from invdiff.operators.matrix import Matrix
from invdiff.operators.mri.sense import MRI


def differences(x: Tensor) -> Tensor:
    """Forward differences of (..., H, W), zero across the border: (2, ..., H, W)."""
    down = torch.zeros_like(x)
    down[..., :-1, :] = x[..., 1:, :] - x[..., :-1, :]
    right = torch.zeros_like(x)
    right[..., :-1] = x[..., 1:] - x[..., :-1]
    return torch.stack([down, right])


def variation(x: Tensor) -> Tensor:
    return differences(x).abs().square().sum(0).sqrt().sum()


def test_step_edge_in_closed_form():
    # Two plateaus of m and n samples: total variation moves each towards the other by weight / length.
    v = torch.cat([torch.zeros(6), torch.ones(4)])[None].double()
    x, _ = tv_proximal(v, torch.tensor([0.3]), iterations=3000)
    expected = torch.cat([torch.full((6,), 0.3 / 6), torch.full((4,), 1 - 0.3 / 4)])[None].double()
    torch.testing.assert_close(x, expected, rtol=0, atol=1e-6)
    # So much weight that one plateau is left: the mean.
    x, _ = tv_proximal(v, torch.tensor([30.0]), iterations=3000)
    torch.testing.assert_close(x, torch.full_like(v, 0.4), rtol=0, atol=1e-6)


def test_proximal_step_closes_the_duality_gap():
    g = torch.Generator().manual_seed(0)
    v = torch.randn(2, 1, 9, 11, generator=g, dtype=torch.complex128)
    weight = torch.tensor([0.2, 1.0])
    x, p = tv_proximal(v, weight, iterations=2000)
    dual = torch.view_as_complex(p.movedim(2, -1).contiguous())  # (axes, N, 1, H, W)
    for i in range(2):
        assert float(dual[:, i].abs().square().sum(0).sqrt().max()) <= float(weight[i]) * (1 + 1e-12)
        primal = (x[i] - v[i]).abs().square().sum() / 2 + weight[i] * variation(x[i])
        lower = (v[i].abs().square().sum() - x[i].abs().square().sum()) / 2  # as x = v - D^H p
        # Weak duality holds only if D^H is right, and the gap bounds |x - solution|^2 / 2.
        assert -1e-9 <= float(primal - lower) < 1e-5 * float(primal)


def test_warm_start_saves_steps():
    v = torch.randn(1, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    weight = torch.tensor([0.5])
    exact, p = tv_proximal(v, weight, iterations=3000)
    again, _ = tv_proximal(v, weight, p, iterations=1)
    cold, _ = tv_proximal(v, weight, iterations=1)
    assert float((again - exact).norm()) < 1e-3 * float((cold - exact).norm())


def test_channels_do_not_mix():
    v = torch.randn(1, 3, 6, 7, generator=torch.Generator().manual_seed(3), dtype=torch.complex64)
    together, _ = tv_proximal(v, torch.tensor([0.5]), iterations=50)
    for c in range(3):
        alone, _ = tv_proximal(v[:, c : c + 1], torch.tensor([0.5]), iterations=50)
        torch.testing.assert_close(together[:, c : c + 1], alone)


def small_mri() -> Measurement:
    g = torch.Generator().manual_seed(0)
    op = MRI(torch.randn(4, 10, 12, generator=g, dtype=torch.complex128), torch.rand(10, 12, generator=g) < 0.5)
    x = torch.zeros(1, 1, 10, 12, dtype=torch.complex128)
    x[..., 2:7, 3:9] = torch.tensor(1 + 0.5j)
    noise = Gaussian(0.5)
    return Measurement((noise.sample(op.forward(x), g) * op.mask)[0], op, noise)


def test_reconstruction_closes_the_duality_gap():
    case, strength = small_mri(), 5.0
    problem = Problem(case, strength, 1, "tv")
    weight = strength / float(problem.scale)
    b = problem.information.flatten()
    n = problem.precision(torch.eye(120, dtype=torch.complex128).reshape(120, 1, 10, 12)).flatten(1).T
    assert float(torch.linalg.eigvalsh(n)[0]) > 0.01 * float(torch.linalg.eigvalsh(n)[-1])  # a well-posed case
    d = differences(torch.eye(120, dtype=torch.complex128).reshape(120, 10, 12)).flatten(2).movedim(1, -1).flatten(0, 1)
    # A lower bound from the dual, maximised independently: -(b - D^H p)^H N^-1 (b - D^H p) / 2 for |p| <= weight.
    inverse = torch.linalg.inv(n)
    step = 1 / float(torch.linalg.eigvalsh(d @ inverse @ d.mH)[-1])
    p = q = torch.zeros(240, dtype=torch.complex128)
    for k in range(4000):
        new = q + step * d @ (inverse @ (b - d.mH @ q))
        size = new.reshape(2, 120).abs().square().sum(0).sqrt().repeat(2)
        new = new * (weight / size.clamp_min(weight))
        q, p = new + k / (k + 3) * (new - p), new
    image = inverse @ (b - d.mH @ p)
    lower = -float(((b - d.mH @ p).conj() @ image).real) / 2

    def value(x: Tensor) -> float:
        quadratic = (x.conj() @ n @ x).real / 2 - (x.conj() @ b).real
        return float(quadratic) + weight * float(variation(x.reshape(10, 12)))

    found = tv(case, strength, 200).flatten()
    assert lower - 1e-9 * abs(lower) <= value(found) < lower + 1e-6 * abs(lower)
    # The penalty matters here, so a wrong weight would be seen.
    assert value(torch.linalg.solve(n, b)) > lower + 1e-2 * abs(lower)
    for wrong in (0.7, 1.4):
        assert value(tv(case, wrong * strength, 200).flatten()) > lower + 1e-4 * abs(lower)


def test_more_iterations_change_nothing():
    case = small_mri()
    x = tv(case, 5.0)
    assert float((tv(case, 5.0, 300) - x).norm() / x.norm()) < 1e-3


def test_a_vector_is_one_line():
    g = torch.Generator().manual_seed(2)
    matrix = torch.randn(60, 20, generator=g, dtype=torch.float64)
    truth = torch.cat([torch.zeros(8), torch.ones(12)]).double()
    y = matrix @ truth + 0.3 * torch.randn(60, generator=g, dtype=torch.float64)
    case = Measurement(y, Matrix(matrix), Gaussian(0.3))
    x = tv(case, 100.0, 300)[0]
    assert int((x.diff().abs() > 1e-3).sum()) == 1  # one jump, where it is
    assert int(x.diff().abs().argmax()) == 7
