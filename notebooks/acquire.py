"""Choosing the lines of a scan while it is sampled; `make.py` turns it into a notebook."""

# %% [markdown]
# # What to measure next
#
# A scanner that measures an eighth of k-space has to choose which eighth. Here the choice is made during the scan:
# draws of the posterior say where the data still to come are uncertain, the next line is measured there, and sampling
# goes on. The command line does the same with `invdiff acquire`.

# %%
from pathlib import Path
from tempfile import mkdtemp

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.animation import FuncAnimation, PillowWriter

import invdiff
from invdiff.acquisition import prior_draws
from invdiff.datasets.phantoms import ground_truth
from invdiff.metrics.image import nmse, ssim
from invdiff.noise import Gaussian
from invdiff.operators.transforms import Fourier
from invdiff.policies import Candidates, Entropy, Fixed, Random, Simulator, greedy_design
from invdiff.random import generator
from invdiff.samplers.active import Active, load_order
from invdiff.units import rescale

SIZE, LINES, DRAWS, SIGMA = 64, 12, 8, 0.01

# %% [markdown]
# ## Something to measure, and an instrument
#
# The *candidates* are groups of data that come together: here the columns of k-space. The *instrument* is asked for
# groups. This one simulates; `Recorded` replays a finished scan, and `Callback` asks a function of your own.

# %%
truth = ground_truth(generator(7, 2**34), SIZE)
operator, noise = Fourier((1, SIZE, SIZE)), Gaussian(SIGMA)
columns = Candidates.along(operator, -1)
instrument = Simulator(truth, operator, noise, generator(0, 1))
prior = invdiff.load_prior("mri")

# %% [markdown]
# ## Acquire
#
# Three central columns to begin with, then one after the other. `watch` keeps what was believed at each decision.

# %%
centre, seen = (SIZE // 2, SIZE // 2 - 1, SIZE // 2 + 1), []
options = {"budget": LINES, "initial": centre, "nfe": 16, "inner": 4}
active = Active(policy=Entropy(), **options).run(instrument, columns, prior, DRAWS, watch=seen.append)
print("columns in the order of their measurement:", active.order)
print(f"{active.nfe} network evaluations, {1e3 * np.mean([d.seconds for d in seen]):.1f} ms a choice")

# %% [markdown]
# ## An animation
#
# What is believed (the mean of the particles), how uncertain it is, and which lines have been measured.

# %%
fig, axes = plt.subplots(1, 3, figsize=(7.5, 2.8), dpi=60, layout="constrained")
first = seen[0].x
shown = [
    axes[0].imshow(first.mean(0)[0].abs(), cmap="gray", vmin=0, vmax=float(truth.abs().max())),
    axes[1].imshow(first.std(0)[0], cmap="magma", vmin=0, vmax=float(first.std(0).max())),
    axes[2].imshow(np.full((SIZE, SIZE), np.nan), cmap="viridis", vmin=0, vmax=LINES),
]
axes[2].set_facecolor("0.85")
for ax in axes:
    ax.set_xticks([])
    ax.set_yticks([])


def frame(k):
    """What was known before decision k."""
    taken = active.order[: len(centre) + k]
    picture = np.full((SIZE, SIZE), np.nan)
    for number, line in enumerate(taken):
        picture[:, line] = number
    for artist, values in zip(shown, (seen[k].x.mean(0)[0].abs(), seen[k].x.std(0)[0], picture), strict=True):
        artist.set_data(values)
    axes[0].set_title(f"belief, {len(taken)} lines")
    axes[1].set_title(f"uncertainty, {seen[k].entropy:.0f} nats")
    axes[2].set_title("lines measured")
    return shown


folder = Path(mkdtemp())
movie = FuncAnimation(fig, frame, frames=len(seen), interval=500)
movie.save(folder / "acquire.gif", writer=PillowWriter(fps=2))
plt.close(fig)
print(f"{folder / 'acquire.gif'}: {(folder / 'acquire.gif').stat().st_size / 1024:.0f} KiB")
plt.rcParams["animation.html"] = "jshtml"
movie  # noqa: B018 - shown

# %% [markdown]
# ## Against masks that do not look
#
# Random lines are easily beaten. The mask to beat is the greedy *fixed* design: the lines that tell most about draws
# of the prior, chosen before the scan. For one Gaussian no adaptive choice can be better; it can where the anatomy is
# uncertain.

# %%
factor = rescale(active.measurement, prior)[1]
design = greedy_design(prior_draws(prior, operator, 16), operator, noise.scaled(factor), columns, LINES, centre)
runs = {"active": active}
for name, policy in {"random": Random(), "fixed": design}.items():
    runs[name] = Active(policy=policy, **options).run(instrument, columns, prior, DRAWS, progress=False)
for name, run in runs.items():
    mean = torch.from_numpy(run.posterior.mean().values)
    print(f"{name:8s} NMSE {nmse(truth, mean):.4f}  SSIM {ssim(truth, mean):.3f}  {run.entropy[-1]:.0f} nats left")

# %% [markdown]
# The chosen mask is a file, and a file is a fixed mask for the next patient.

# %%
kept = active.save(folder / "lines.npz")
again = Active(policy=Fixed(load_order(kept)), **options).run(instrument, columns, prior, DRAWS, progress=False)
assert again.order == active.order
errors = {name: nmse(truth, torch.from_numpy(run.posterior.mean().values)) for name, run in runs.items()}
assert errors["active"] < errors["random"]
