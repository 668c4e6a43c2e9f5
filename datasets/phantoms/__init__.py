"""Procedural ground truths for demonstrations and for training priors without any data.

- ``images``: the door; ``head``, ``body`` (of ``tissue``) and ``leaves``: what it draws, with ``fields``.
- ``coils``: sensitivities of a receiver.
"""

from invdiff.datasets.phantoms.images import (
    KINDS,
    body_phantom,
    dead_leaves,
    ground_truth,
    head_phantom,
    pool,
    smooth_phase,
)

__all__ = ["KINDS", "body_phantom", "dead_leaves", "ground_truth", "head_phantom", "pool", "smooth_phase"]
