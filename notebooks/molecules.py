"""Free energies by a biased diffusion sampler; `make.py` turns it into a notebook."""

# %% [markdown]
# # Free energies by a diffusion sampler that is biased along collective variables
#
# A molecule spends its time in a few basins. What we want to know is how much of it in each, and a sampler that learns
# from forces alone cannot tell: forces inside two basins say nothing about their relative weight when a barrier parts
# them. A bias along one or two variables that matter flattens the barrier; weights take the bias back out.
#
# Three steps on energies whose answer is known, then a peptide.

# %%
import json
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Image, display

from invdiff import Posterior
from invdiff.molecules.config import load_config
from invdiff.molecules.run import run_molecule

torch.set_num_threads(1)
folder = Path(tempfile.mkdtemp())


def small(name, **changes):
    """A shipped configuration with one seed; the others repeat it."""
    config = load_config(name)
    return config.model_copy(update={"seeds": config.seeds[:1], **changes})


# %% [markdown]
# ## Two wells in the plane
# The right well holds 5 % of the probability, 10 kT of barrier away, and the run is shown only the left one. About a
# minute on one core.

# %%
wells = run_molecule(small("double_well"), folder / "double_well", progress=False)
print(f"exact {wells['exact_kT']:.3f} kT")
print(f"biased and refined {wells['delta_f_kT']:.3f} +- {wells['stderr_kT']:.3f} kT")
print(f"the same sampler without bias {wells['unbiased']['delta_f_kT']:.3f} kT")
assert abs(wells["delta_f_kT"] - wells["exact_kT"]) < 0.2

# %% [markdown]
# The free energy with its error band, the bias' own estimate and the truth. The bias and the draws of the sampler carry
# the same error along x, so that their agreement proves nothing; the refined figure comes from Markov chains in the
# frozen bias, and there from how often they change wells, which forgets in which well the sampler put them.

# %%
display(Image(str(folder / "double_well" / "free_energy.png")))
display(Image(str(folder / "double_well" / "histogram.png")))
seed = wells["seeds"][0]
print({k: round(seed[k], 3) for k in ("of_bias", "of_draws", "counted", "delta_f", "crossings_per_chain", "ess_share")})

# %% [markdown]
# ## Müller and Brown's surface, both coordinates biased
# Three wells; the start is the deepest.

# %%
brown = run_molecule(small("muller_brown"), folder / "muller_brown", progress=False)
print(f"exact {brown['exact_kT']:.3f} kT, found {brown['delta_f_kT']:.3f} +- {brown['stderr_kT']:.3f} kT")
assert abs(brown["delta_f_kT"] - brown["exact_kT"]) < 0.4
display(Image(str(folder / "muller_brown" / "free_energy.png")))

# %% [markdown]
# ## Where the work goes
# The figure against the number of energies: what the bias alone says while it grows, then the chains.

# %%
figure, axes = plt.subplots(figsize=(6, 3.5))
for result, colour in ((wells, "C0"), (brown, "C1")):
    for phase, style in (("bias", ":"), ("refined", "-")):
        points = [(p["energies"], p["delta_f_kT"]) for p in result["seeds"][0]["curve"] if p["phase"] == phase]
        axes.plot(*np.array(points).T, style, color=colour, label=f"{result['name']}, {phase}")
    axes.axhline(result["exact_kT"], color=colour, ls="--", lw=0.8)
axes.set(xscale="log", xlabel="energies", ylabel="F(b) - F(a) (kT)")
axes.legend(fontsize=8)
# %% [markdown]
# ## Draws are weighted
# Everything ends in a `Posterior`: draws with log-weights, so any average can be taken.

# %%
posterior = Posterior.load(folder / "double_well" / "posterior.nc")
right = float((posterior.weights * (posterior.draws[:, 0] > 0)).sum())
print(f"{posterior.ess():.0f} effective draws; the right well holds {right:.1%} (exact 5.0 %)")

# %% [markdown]
# ## A peptide
# Alanine dipeptide in implicit water takes some minutes on a CPU, so this part shows a finished run if there is
# one: `invdiff molecule run alanine_dipeptide` (with the extra `molecules`) writes it to `runs/alanine_dipeptide`.

# %%
finished = Path("runs/alanine_dipeptide")
if (finished / "ramachandran.png").is_file():
    display(Image(str(finished / "ramachandran.png")))
    result = json.loads((finished / "result.json").read_text())
    print(f"F(phi > 0) - F(phi < 0) = {result['delta_f_kj']:.2f} +- {result['stderr_kj']:.2f} kJ/mol")
    print(*result["warnings"], sep="\n")
else:
    print("no finished run in", finished.absolute())
