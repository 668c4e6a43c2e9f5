"""The story of `invdiff demo`; `make.py` turns it into a notebook."""

# %% [markdown]
# # From undersampled k-space to posterior draws
#
# A magnetic-resonance scan is shortened by measuring only part of k-space. Many images then fit the data. This notebook
# draws several of them, from the posterior under a learned prior, and looks at what they agree on.
#
# It is what `invdiff demo` does, step by step.

# %%
from pathlib import Path
from tempfile import mkdtemp

import matplotlib.pyplot as plt
import numpy as np
import torch

import invdiff
from invdiff.baselines.tune import tune
from invdiff.baselines.tv import tv
from invdiff.baselines.zero_filled import zero_filled
from invdiff.demo import coverage, simulate
from invdiff.metrics.image import psnr

PRIOR = "mri"
SIZE, DRAWS, NFE = 128, 8, 50

# %% [markdown]
# ## An acquisition
#
# A procedural head with a smooth phase is seen by eight coils, a quarter of the phase encodes is kept, and noise is
# added. The file is laid out as those of the fastMRI data set are. It does not hold the truth.

# %%
file = Path(mkdtemp()) / "kspace.h5"
truth = simulate(file, seed=0, size=SIZE)
measurement = invdiff.read(file, slice=0)
print(measurement)
print({key: measurement.meta[key] for key in ("estimated", "sigma", "acceleration", "calibration_region")})

# %% [markdown]
# `read` has estimated what the file does not say: coil sensitivities from the fully sampled centre (ESPIRiT), and the
# noise level. The forward model is `y = M F S x + noise`: maps, Fourier transform, mask.

# %%
fig, axes = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
axes[0].imshow(truth[0].abs(), cmap="gray")
axes[0].set_title("truth")
axes[1].imshow(measurement.operator.coil_maps[0, 0, 0].abs(), cmap="viridis")
axes[1].set_title("map of the first coil")
axes[2].imshow(measurement.y[0].abs().clamp(min=1e-3).log10(), cmap="gray")
axes[2].set_title("its k-space (log10)")
# %% [markdown]
# ## What classical methods make of it
#
# Zero-filling leaves the aliasing. Total variation removes much of it; its strength is chosen here by comparison with
# the truth, which no real case allows.

# %%
naive = zero_filled(measurement)[0]
tuned = tune(tv, measurement, lambda x: -psnr(truth, x[0])).x[0]
print(f"zero-filled {psnr(truth, naive):.2f} dB, TV {psnr(truth, tuned):.2f} dB")

# %% [markdown]
# ## The posterior
#
# A sampler walks from noise to an image. At each noise level the prior's network says what the image probably is, and
# conjugate gradients bring it into agreement with the data (`dds`). Each draw starts from noise of its own.

# %%
posterior = invdiff.sample(measurement, PRIOR, sampler="dds", draws=DRAWS, nfe=NFE, seed=0)
mean = torch.from_numpy(posterior.mean().values)
print(posterior)
print(f"posterior mean {psnr(truth, mean):.2f} dB")

# %%
fig, axes = plt.subplots(2, 4, figsize=(12, 6.2), layout="constrained")
shown = {
    "truth": truth[0],
    "zero-filled": naive[0],
    "TV": tuned[0],
    "posterior mean": mean[0],
    "a draw": torch.from_numpy(posterior.draws.values[0, 0]),
    "another draw": torch.from_numpy(posterior.draws.values[-1, 0]),
}
for ax, (title, image) in zip(axes.flat, shown.items(), strict=False):
    ax.imshow(image.abs(), cmap="gray", vmin=0, vmax=float(truth.abs().max()))
    ax.set_title(title)
error = (truth.abs() - mean.abs()).abs()[0]
spreads = {"std of the draws": posterior.std().values[0], "|error| of the mean": error}
for ax, (title, image) in zip(axes.flat[6:], spreads.items(), strict=True):
    ax.imshow(image, cmap="magma", vmin=0, vmax=float(np.quantile(error, 0.998)))
    ax.set_title(title)

# %% [markdown]
# ## May one trust it?
#
# Two questions. Do the draws explain the data? Then chi2 is about its expectation. Is the spread as large as the error?
# Then 90 % intervals of the magnitude hold the truth in nine pixels of ten.

# %%
share = coverage(truth, posterior, 0.9)
print(f"chi2 / expected {posterior.diagnostics['chi2_ratio']:.3f}, coverage of 90 % intervals {share:.3f}")

# %% [markdown]
# Any derived quantity has a posterior, too: `apply` gives its value in every draw. Here, the mean magnitude of a
# region.

# %%
region = posterior.apply(lambda x: np.abs(x[..., SIZE // 2 - 8 : SIZE // 2 + 8, SIZE // 2 - 8 : SIZE // 2 + 8]).mean())
true = float(truth[..., SIZE // 2 - 8 : SIZE // 2 + 8, SIZE // 2 - 8 : SIZE // 2 + 8].abs().mean())
print(f"region: {float(region.mean()):.4f} +- {float(region.std()):.4f}, true {true:.4f}")

# %%
gain = psnr(truth, mean) - psnr(truth, tuned)
print(f"the posterior mean is {gain:.2f} dB above TV")
assert gain > 0.5
