"""What to measure next.

=============================  ===================================================================================
`entropy.Entropy`              maximum entropy of the particles' predictions (the default)
`entropy.PublishedEntropy`     as released with active diffusion subsampling, for comparison
`infogain.InformationGain`     the information itself, by Monte Carlo
`variance.Variance`            largest variance
`gaussian.LogDet`              expected information gain of a linear-Gaussian belief
`gaussian.AOptimal`            least expected squared error, of x or of a quantity
`gaussian.DOptimal`            least volume
`plans.Random` and others      places only: random, variable density, equispaced, low frequencies, a fixed list
`design.greedy_design`         the greedy fixed design from draws of the prior
`oracle.Oracle`                knows the truth
=============================  ===================================================================================

A policy sees a `belief.Belief`: particles, the groups of data to choose from (`candidates.Candidates`) and the noise.
It works on the range of any linear operator. `invdiff.samplers.active.Active` asks it while it samples, and fetches
the data from an instrument (`instruments`).
"""

from __future__ import annotations

from collections.abc import Callable

from invdiff.errors import UnknownNameError
from invdiff.policies.base import Policy
from invdiff.policies.belief import Belief, factor_of
from invdiff.policies.candidates import Candidates
from invdiff.policies.design import greedy_design
from invdiff.policies.entropy import Entropy, PublishedEntropy
from invdiff.policies.gaussian import AOptimal, DOptimal, LogDet
from invdiff.policies.infogain import InformationGain
from invdiff.policies.instruments import Callback, Instrument, Recorded, Simulator
from invdiff.policies.oracle import Oracle
from invdiff.policies.plans import Equispaced, Fixed, LowFrequency, Random, VariableDensity
from invdiff.policies.variance import Variance

__all__ = [
    "AOptimal",
    "Belief",
    "Callback",
    "Candidates",
    "DOptimal",
    "Entropy",
    "Equispaced",
    "Fixed",
    "InformationGain",
    "Instrument",
    "LogDet",
    "LowFrequency",
    "Oracle",
    "Policy",
    "PublishedEntropy",
    "Random",
    "Recorded",
    "Simulator",
    "VariableDensity",
    "Variance",
    "factor_of",
    "greedy_design",
    "named_policy",
    "policy_names",
]

_NAMED: dict[str, Callable[[], Policy]] = {
    "entropy": Entropy,
    "entropy-published": PublishedEntropy,
    "infogain": InformationGain,
    "variance": Variance,
    "logdet": LogDet,
    "a-optimal": AOptimal,
    "d-optimal": DOptimal,
    "random": Random,
    "density": VariableDensity,
    "equispaced": Equispaced,
    "lowfrequency": LowFrequency,
}


def policy_names() -> list[str]:
    """The names `named_policy` knows; "fixed" and "oracle" need draws of the prior, or the truth, besides."""
    return list(_NAMED)


def named_policy(name: str) -> Policy:
    """Return the policy of that name with its usual options. Raises UnknownNameError."""
    if name not in _NAMED:
        raise UnknownNameError(f"no policy {name!r}; known: {', '.join(_NAMED)}")
    return _NAMED[name]()
