"""What there is to choose from: groups of data that are measured together."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from invdiff.errors import InputError, ShapeError
from invdiff.operators.base import LinearOperator

__all__ = ["Candidates"]


class Candidates:
    """Groups of the data of an operator: k-space lines or points, projection angles, sensors, pixels.

    Args:
        operator: the forward model of everything that could be measured.
        labels: number of the group of each datum, integers of a shape that broadcasts to ``range_shape``; -1 for data
            that are never to be measured.
        positions: where the groups stand, ``(groups, k)``, the origin being the centre (of k-space, say). Policies
            that go by place need them.

    Attributes:
        exists: ``(groups,)``, false for groups that hold no datum of the operator.

    Raises:
        ShapeError: the labels do not broadcast, or there is not one position a group. InputError: labels are not
            integers, below -1, or name no group; the operator holds several problems.
    """

    def __init__(self, operator: LinearOperator, labels: Tensor, positions: Tensor | None = None) -> None:
        labels = torch.as_tensor(labels).cpu()
        if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
            raise InputError(f"labels are {labels.dtype}; Candidates expects integers, the numbers of groups")
        try:
            full = labels.long().expand(operator.range_shape).clone()
        except RuntimeError as error:
            raise ShapeError(
                f"labels of shape {tuple(labels.shape)} do not broadcast to the range {operator.range_shape} of"
                f" {operator!r}"
            ) from error
        if int(full.min()) < -1 or int(full.max()) < 0:
            raise InputError("labels run from -1 (never measured) to the number of groups - 1, and name at least one")
        if operator.n_problems > 1:
            raise InputError(f"{operator!r} holds {operator.n_problems} problems; take([i]) one of them")
        self.count = int(full.max()) + 1
        if positions is None:
            positions = torch.arange(self.count)[:, None] - self.count // 2
        self.positions = torch.as_tensor(positions, dtype=torch.float64).cpu()
        self.positions = self.positions.reshape(self.count, -1) if self.positions.ndim == 1 else self.positions
        if self.positions.shape[0] != self.count:
            raise ShapeError(f"positions have shape {tuple(self.positions.shape)}; there are {self.count} groups")
        self.labels = labels.long()  # as small as it was given
        self.range_shape = tuple(operator.range_shape)
        if operator.range_mask is not None:
            full = full.masked_fill(~operator.range_mask.cpu().expand(operator.range_shape), -1)
        self.members = _members(full.reshape(-1), self.count)
        self.exists = (self.members >= 0).any(1)
        self._whole_rows = _rows(self.labels, operator.range_shape) and operator.range_mask is None

    @classmethod
    def along(cls, operator: LinearOperator, *axes: int, positions: Tensor | None = None) -> Candidates:
        """One group for each place on the given axes of the range, whatever the others: -1 for columns of k-space,
        (-2, -1) for its points or for pixels, 0 for the views of a tomograph.

        Positions not given are those on the grid, in units of an axis' length from entry ``n // 2``. Raises InputError.
        """
        shape = operator.range_shape
        rank = len(shape)
        chosen = sorted({a % rank for a in axes})
        if not axes or len(chosen) != len(axes) or not all(-rank <= a < rank for a in axes):
            raise InputError(f"axes are {axes}; expected different axes of the range {shape}")
        size = math.prod(shape[a] for a in chosen)
        labels = torch.arange(size).reshape([n if a in chosen else 1 for a, n in enumerate(shape)])
        if positions is None:
            grids = [(torch.arange(shape[a], dtype=torch.float64) - shape[a] // 2) / shape[a] for a in chosen]
            positions = torch.stack([g.reshape(-1) for g in torch.meshgrid(*grids, indexing="ij")], 1)
        return cls(operator, labels, positions)

    def __len__(self) -> int:
        return self.count

    def mask(self, groups: Sequence[int]) -> Tensor:
        """Return which data the groups hold: boolean, broadcasts to the range. Raises InputError."""
        wrong = [g for g in groups if not 0 <= g < self.count]
        if wrong:
            raise InputError(f"groups {wrong} do not exist; there are {self.count}, counted from 0")
        return torch.isin(self.labels, torch.tensor(list(groups), dtype=torch.long))

    def restrict(self, operator: LinearOperator, y: Tensor, groups: Sequence[int]) -> tuple[LinearOperator, Tensor]:
        """Return the operator of the given groups, and their part of data y of the whole range.

        Groups that are whole entries of the range's first axis are cut out (a tomograph then works on these views
        alone); others are kept in place, with zeros elsewhere.
        """
        mask = self.mask(groups).to(y.device)
        if self._whole_rows and bool(mask.any()):
            rows = mask.reshape(-1).nonzero()[:, 0]
            return operator[rows], y[rows]
        return operator[mask], y * mask

    def nearest_centre(self, among: Tensor) -> int:
        """The group nearest the origin of those that are true in `among` ``(groups,)``."""
        distance = self.positions.square().sum(1).masked_fill(~among, math.inf)
        return int(distance.argmin())


def _members(labels: Tensor, count: int) -> Tensor:
    """Flat numbers of the data of each group, ``(groups, largest size)``, -1 where a group is smaller."""
    order = torch.argsort(labels, stable=True)
    order = order[labels[order] >= 0]
    of = labels[order]
    sizes = torch.bincount(of, minlength=count)
    first = torch.cumsum(sizes, 0) - sizes
    out = torch.full((count, max(1, int(sizes.max()))), -1, dtype=torch.long)
    out[of, torch.arange(len(of)) - first[of]] = order
    return out


def _rows(labels: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether labels differ along the first axis of the range alone."""
    return labels.ndim == len(shape) and math.prod(labels.shape[1:]) == 1
