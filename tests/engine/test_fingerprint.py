from importlib.metadata import entry_points

import numpy as np
import pytest
import torch

from invdiff.engine.fingerprint import fingerprint
from invdiff.errors import InputError
from invdiff.noise import Gaussian
from invdiff.operators import Matrix, PointSensors
from invdiff.operators.base import LinearOperator
from invdiff.operators.ct import ParallelCT

REGISTERED = sorted(entry_points(group="invdiff.operators"), key=lambda p: p.name)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("point", REGISTERED, ids=lambda p: p.name)
def test_an_operator_is_known_again(point):
    one, same = (point.load().example(rng()) for _ in range(2))
    assert fingerprint(one) == fingerprint(same)


def tomograph(*centre):
    return ParallelCT((8, 8), torch.arange(4) * 0.7, 12, image_centre=centre, truncated=True)


CHANGES = {
    "number": (1, 2),
    "number and text": (1, "1"),
    "sign of zero": (0.0, -0.0),
    "tensor": (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0000002])),
    "shape": (torch.zeros(2, 3), torch.zeros(3, 2)),
    "dtype": (torch.zeros(2), torch.zeros(1, dtype=torch.float64)),
    "conjugate": (torch.tensor([1j]), torch.tensor([1j]).conj()),
    "array": (np.arange(3), np.arange(3) + 1),
    "shape of an array": (np.zeros((2, 3)), np.zeros((3, 2))),
    "dtype of an array": (np.zeros(2, np.float32), np.zeros(1)),
    "number of numpy": (np.float32(1), np.float32(2)),
    "key": ({"a": 1}, {"b": 1}),
    "list": ([1, 2], [2, 1]),
    "nesting": ([[1], 2], [1, [2]]),
    "nothing": (None, 0),
    "digits": ([1, 23], [12, 3]),
    "levels": ({"a": {"b": 1}, "c": 2}, {"a": {"b": 1, "c": 2}}),
    "centre": (tomograph(1.0, 12.5), tomograph(1.01, 2.5)),
    "noise": (Gaussian(0.1), Gaussian(0.2)),
    "operator": (Matrix(torch.eye(2)), Matrix(2 * torch.eye(2))),
    "scaled": (Matrix(torch.eye(2)), 2.0 * Matrix(torch.eye(2))),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_differs_is_told_apart(name):
    one, other = CHANGES[name]
    assert fingerprint(one) != fingerprint(other)
    assert fingerprint("run", one) != fingerprint("run", other)


def test_order_of_keys_and_memory_do_not_count():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    x = torch.arange(6.0).reshape(2, 3)
    assert fingerprint(x.mT) == fingerprint(x.mT.contiguous())
    assert fingerprint(x.numpy().T) == fingerprint(np.ascontiguousarray(x.numpy().T))


def test_places_of_sensors_count():
    axes = (torch.linspace(0, 5, 6), torch.linspace(0, 7, 8))
    one, other = (PointSensors((1, 6, 8), axes, torch.tensor([[1.5, y]])) for y in (2.0, 2.5))
    assert fingerprint(one) != fingerprint(other)


def test_an_operator_that_cannot_be_saved_is_its_buffers():
    class Own(LinearOperator):
        domain = range = "real"
        domain_shape = range_shape = (2,)

        def __init__(self, gain):
            self.gain = gain

        def _forward(self, x):
            return self.gain * x

        _adjoint = _forward

    one, other = Own(torch.ones(2)), Own(torch.tensor([1.0, 2.0]))
    assert fingerprint(one) == fingerprint(Own(torch.ones(2))) != fingerprint(other)


def test_what_has_no_content_is_refused():
    for thing in (object(), np.array(["a"], object)):  # the bytes of such an array are addresses
        with pytest.raises(InputError, match="has no fingerprint"):
            fingerprint({"a": thing})
