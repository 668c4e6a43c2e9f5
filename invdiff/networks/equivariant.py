"""A vector field v(t, x) on particles that turns with them, and tells a molecule from its mirror image.

Messages on all pairs between scalars and vectors (after Schütt, Unke, Gastegger 2021, arXiv 2102.03150), with one term
more: the cross product of a neighbour's vector with the direction to it. It keeps its sign under rotation and not
under reflection, so scalar products of the two kinds are triple products: chirality.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from invdiff.networks.internal import TimeFeatures

__all__ = ["EquivariantField"]


class EquivariantField(nn.Module):
    """v(t, x), ``(N, particles, dim)``, mean-free, equivariant under rotations and translations.

    Particles of one kind are exchangeable; give every atom a kind of its own (``range(n)``) where the bonds fix who is
    who. In 3 dimensions reflections are told apart unless `chiral` is false; in 2 there is no cross product.

    Args:
        kinds: one integer per particle.
        dim: 2 or 3.
        features: scalar channels, and vector channels.
        radial: Gaussians in the distance.
        layers: rounds of messages.
        reach: the largest distance that is resolved, in the unit of x.
        gain: typical size of v; the output is multiplied by it.
        chiral: with the cross product.
    """

    def __init__(
        self,
        kinds: Sequence[int],
        dim: int = 3,
        features: int = 32,
        radial: int = 16,
        layers: int = 3,
        reach: float = 5.0,
        gain: float = 1.0,
        chiral: bool = True,
    ) -> None:
        super().__init__()
        self.gain, self.dim = gain, dim
        self.register_buffer("kinds", torch.as_tensor(list(kinds)), persistent=False)
        self.register_buffer("others", 1 - torch.eye(len(kinds)), persistent=False)
        self.register_buffer("centres", torch.linspace(0, reach, radial), persistent=False)
        self.width = reach / radial
        self.time = TimeFeatures()
        self.embed = nn.Embedding(int(max(kinds)) + 1, features)
        self.clock = nn.Linear(self.time.size, features)
        crossed = chiral and dim == 3
        self.messages = nn.ModuleList(_Message(features, radial, crossed) for _ in range(layers))
        self.updates = nn.ModuleList(_Update(features) for _ in range(layers))
        last = nn.Linear(features, features)
        self.head = nn.Sequential(nn.Linear(features, features), nn.SiLU(), last)
        self.mix = nn.Linear(features, 1, bias=False)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """Return v of t ``(N,)`` and x ``(N, particles, dim)``."""
        apart = x[:, None] - x[:, :, None]  # from i to j: (N, i, j, dim)
        distance = (apart.square().sum(-1, keepdim=True) + 1e-12).sqrt()
        direction = apart / distance
        exponent = 0.5 * ((distance - self.get_buffer("centres")) / self.width) ** 2
        radial = torch.exp(-exponent.clamp_max(30))  # below lie numbers too small to compute with at full speed
        radial = torch.cat([radial, torch.log1p(distance)], -1)
        others = self.get_buffer("others")[..., None]
        scalars = self.embed(self.get_buffer("kinds")) + self.clock(self.time(t))[:, None]
        vectors = x.new_zeros(*x.shape[:2], self.dim, scalars.shape[-1])
        for message, update in zip(self.messages, self.updates, strict=True):
            scalars, vectors = message(scalars, vectors, radial, direction, others)
            scalars, vectors = update(scalars, vectors)
        out = self.gain * self.mix(self.head(scalars)[:, :, None] * vectors)[..., 0]
        out = out - out.mean(1, keepdim=True)
        return out


class _Message(nn.Module):
    """``s_i += sum_j m_0``, ``V_i += sum_j V_j m_1 + u_ij m_2 + (V_j x u_ij) m_3``; m of s_j and the distance."""

    def __init__(self, features: int, radial: int, crossed: bool) -> None:
        super().__init__()
        self.parts = 4 if crossed else 3
        self.source = nn.Sequential(
            nn.Linear(features, features), nn.SiLU(), nn.Linear(features, self.parts * features)
        )
        self.radial = nn.Linear(radial + 1, self.parts * features)
        self.norm = nn.LayerNorm(features)

    def forward(
        self, scalars: Tensor, vectors: Tensor, radial: Tensor, direction: Tensor, others: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the new scalars ``(N, n, F)`` and vectors ``(N, n, dim, F)``; `others` is 0 for a particle itself."""
        share = others / (scalars.shape[1] - 1) ** 0.5
        weights = share * self.source(self.norm(scalars))[:, None] * self.radial(radial)
        parts = weights.chunk(self.parts, -1)  # each (N, i, j, F)
        moved = torch.einsum("njdf,nijf->nidf", vectors, parts[1]) + torch.einsum(
            "nijd,nijf->nidf", direction, parts[2]
        )
        if self.parts == 4:
            crossed = torch.einsum("nijd,nijf,njef->nidef", direction, parts[3], vectors)
            moved = moved + torch.stack(
                [crossed[:, :, b, a] - crossed[:, :, a, b] for a, b in ((1, 2), (2, 0), (0, 1))], 2
            )
        return scalars + parts[0].sum(2), vectors + moved


class _Update(nn.Module):
    """Exchange between a particle's scalars and vectors by norms and scalar products; vectors are kept of size 1."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.left = nn.Linear(features, features, bias=False)
        self.right = nn.Linear(features, features, bias=False)
        self.gates = nn.Sequential(nn.Linear(2 * features, features), nn.SiLU(), nn.Linear(features, 3 * features))
        self.norm = nn.LayerNorm(features)

    def forward(self, scalars: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return the new scalars and vectors."""
        vectors = vectors / (1e-6 + vectors.square().sum(2, keepdim=True).mean(-1, keepdim=True)).sqrt()
        left, right = self.left(vectors), self.right(vectors)
        length = (left.square().sum(2) + 1e-8).sqrt()
        a, b, c = self.gates(torch.cat([self.norm(scalars), length], -1)).chunk(3, -1)
        return scalars + a + b * (left * right).sum(2), vectors + c[:, :, None] * right
