"""Doors through which networks of other conventions become priors, each exact at the network's own noise levels.

===========================  =========================================================================================
`NetworkPrior`               any module ``(x, sigma (N,)) -> E[x0 | x]`` on real channels, real or complex images
`from_diffusers`             a UNet or pipeline with its scheduler: epsilon, v, x0; DDPM, DDIM, flow matching
`from_edm`                   EDM and EDM2: ``net(x, sigma, class_labels)``
`from_guided_diffusion`      OpenAI guided-diffusion (ADM): ``model(x, t)`` with learned or fixed variance
`from_score_sde`             score_sde NCSN++ with a variance-exploding SDE: ``model(x, sigma) -> score``
`from_monai`                 MONAI's ``DiffusionModelUNet`` with its scheduler, rectified flow included
`from_deepinv`               a deepinv denoiser ``(x, sigma)``
`from_azula`                 an azula denoiser ``(x_t, t)`` with its schedule
`load_weights`               tensors of a safetensors file or a checkpoint without code; untrusted pickles are refused
===========================  =========================================================================================

A plain function ``(x, sigma) -> E[x0 | x]`` needs no adapter: `invdiff.priors.base.as_prior` takes it.
"""

from invdiff.priors.adapters.azula import from_azula
from invdiff.priors.adapters.deepinv import from_deepinv
from invdiff.priors.adapters.diffusers import from_diffusers
from invdiff.priors.adapters.edm import from_edm
from invdiff.priors.adapters.guided_diffusion import from_guided_diffusion
from invdiff.priors.adapters.monai import from_monai
from invdiff.priors.adapters.network import NetworkPrior
from invdiff.priors.adapters.score_sde import from_score_sde
from invdiff.priors.adapters.weights import load_weights

__all__ = [
    "NetworkPrior",
    "from_azula",
    "from_deepinv",
    "from_diffusers",
    "from_edm",
    "from_guided_diffusion",
    "from_monai",
    "from_score_sde",
    "load_weights",
]
