"""A retrospective active acquisition, compared with fixed masks: what ``invdiff acquire`` does.

- ``subject``: something to measure, from a file; ``compare``: policies at the same budget.
"""

from __future__ import annotations

from invdiff.acquisition.compare import Comparison, acquire, policy_names, prior_draws
from invdiff.acquisition.subject import Subject, from_file

__all__ = ["Comparison", "Subject", "acquire", "from_file", "policy_names", "prior_draws"]
