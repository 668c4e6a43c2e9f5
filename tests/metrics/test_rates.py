"""Free energies from rates of exchange: right from any start, with errors that cover; crossings counted."""

import math

import pytest
import torch
from torch import Tensor

from invdiff.errors import InputError
from invdiff.metrics.free_energy import delta_f_of_samples
from invdiff.metrics.rates import crossings, two_state

LEFT, RIGHT = [(None, 0.0)], [(0.0, None)]


def jumps(chains: int, frames: int, rng: torch.Generator, start: float = 1.0) -> Tensor:
    """A two-state chain with p(A->B) = 0.02 and p(B->A) = 0.06 per frame: the truth is ln 3. `start`: share in B."""
    state, kept = torch.rand(chains, generator=rng) < start, []
    for _ in range(frames):
        state = state ^ (torch.rand(chains, generator=rng) < torch.where(state, 0.06, 0.02))
        kept.append(state)
    return torch.stack(kept, 1)[..., None].double() - 0.5


def test_rates_forget_where_chains_started() -> None:
    s = jumps(400, 100, torch.Generator().manual_seed(0))
    zero = torch.zeros(s.shape[:2])
    assert delta_f_of_samples(s, zero, LEFT, RIGHT) < math.log(3) - 0.2  # still remembers
    value, error = two_state(s, zero, LEFT, RIGHT)
    assert 0.01 < error < 0.1 and value == pytest.approx(math.log(3), abs=3 * error)
    bias = torch.where(s[..., 0] > 0, 0.7, 0.0)
    assert two_state(s, bias, LEFT, RIGHT)[0] == pytest.approx(value - 0.7)
    assert two_state(s, zero, RIGHT, LEFT)[0] == pytest.approx(-value)


@pytest.mark.parametrize("start", [0.25, 1.0])
def test_errors_cover(start: float) -> None:
    # 100 experiments: their spread about the truth is what the standard error says. At 100 the ratio is known to 7 %.
    rng = torch.Generator().manual_seed(1)
    found = torch.tensor(
        [two_state(s, torch.zeros(s.shape[:2]), LEFT, RIGHT) for s in (jumps(60, 60, rng, start) for _ in range(100))]
    )
    z = (found[:, 0] - math.log(3)) / found[:, 1]
    assert 0.75 < float(z.square().mean().sqrt()) < 1.25


def test_no_exchange_is_no_figure_and_one_exchange_no_error() -> None:
    s = torch.cat([-torch.ones(5, 9, 1), torch.ones(5, 9, 1)])
    assert math.isnan(two_state(s, torch.zeros(10, 9), LEFT, RIGHT)[0])
    s[0, 5:], s[5, 5:] = 1, -1
    value, error = two_state(s, torch.zeros(10, 9), LEFT, RIGHT)
    assert value == pytest.approx(0) and error == math.inf
    with pytest.raises(InputError, match="one chain"):
        two_state(s[:1], torch.zeros(1, 9), LEFT, RIGHT)


def test_crossings_are_of_states_and_not_of_what_lies_between() -> None:
    s = torch.tensor([[-1.0, 0.2, -1.0, 0.2, 1.0, 0.2, 1.0, -1.0], [0.2] * 8])[..., None]
    assert crossings(s, [(None, 0.0)], [(0.5, None)]).tolist() == [2, 0]
