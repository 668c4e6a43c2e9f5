"""A DICOM series through sparse-view CT or undersampled MRI and back; `make.py` turns it into a notebook."""

# %% [markdown]
# # A volume: from a DICOM series to a DICOM series
#
# A three-dimensional scan is shortened: a quarter of k-space is measured. The prior knows slices only. This notebook
# reads a DICOM series, simulates the scan, reconstructs the volume with two methods, looks at it in three planes and
# writes a DICOM series that opens in the place of the original.
#
# The series is that of `$INVDIFF_DATA/mri/t1w_dicom` (a de-faced T1-weighted head). Without it a procedural head is
# written to DICOM first, and takes its place.

# %%
import os
from pathlib import Path
from tempfile import mkdtemp

import matplotlib.pyplot as plt
import numpy as np
import torch

import invdiff
from invdiff.baselines.zero_filled import zero_filled
from invdiff.datasets.dicom import writer
from invdiff.datasets.phantoms.volumes import head_volume
from invdiff.datasets.reading import read_volume
from invdiff.datasets.volume import Volume
from invdiff.metrics.planes import PLANES, plane_scores
from invdiff.simulation import MRIScan, simulate

PRIOR = "mri"
BINNED, DRAWS, NFE = 4, 4, 15
work = Path(mkdtemp())

# %% [markdown]
# ## The series
#
# `read_volume` sorts the files along the normal of the slices and keeps where they stand.

# %%
series = Path(os.environ.get("INVDIFF_DATA", "")) / "mri/t1w_dicom"
if "INVDIFF_DATA" not in os.environ or not series.is_dir():
    drawn = head_volume(torch.Generator().manual_seed(0), (96, 256, 208)).numpy()
    writer.write(work / "series", {"head": Volume(1000 * drawn, np.diag([0.7, 0.7, 0.7, 1.0])[:, [2, 1, 0, 3]])})
    series = next(path for path in [work / "series" / "head", work / "series"] if path.is_dir())
original = read_volume(series)
print(original.values.shape, "voxels of", [round(d, 3) for d in original.spacing], "mm")

# %% [markdown]
# To keep the notebook short, voxels are averaged by fours along each axis. The affine follows: the first new voxel
# stands in the middle of those that it was made of.

# %%
values = torch.from_numpy(original.values.copy())[None, None]
values = torch.nn.functional.avg_pool3d(values, BINNED)[0, 0]
affine = original.affine @ np.diag([BINNED, BINNED, BINNED, 1.0])
affine[:3, 3] = original.world([(BINNED - 1) / 2] * 3)
meta = dict(original.meta)
if "files" in meta:
    meta["files"] = meta["files"][BINNED // 2 :: BINNED]  # each new slice derives from one in its middle
small = Volume(values.numpy(), affine, original.units, meta=meta)
print(small.values.shape, "voxels of", [round(d, 3) for d in small.spacing], "mm")

# %% [markdown]
# ## The scan
#
# Eight coils, a smooth phase, the readout along rows sampled fully, points in the two other directions. The noise is
# 2 % of bright tissue.

# %%
case = simulate(small, MRIScan(acceleration=4, mask="poisson", volume=True), seed=0)
measurement, truth = case.measurement, case.truth[0, 0]
print(measurement)
print({key: measurement.meta[key] for key in ("sigma", "acceleration")})

# %% [markdown]
# ## Reconstruction
#
# `slicewise` lets the prior see one slice at a time, and only the data join them. `dds3d` adds total variation from
# slice to slice. Both give draws; their mean is the estimate.

# %%
images = {"truth": truth, "zero-filled": zero_filled(measurement)[0, 0]}
posteriors = {}
prior = invdiff.load_prior(PRIOR)
for method in ("slicewise", "dds3d"):
    posteriors[method] = invdiff.sample(measurement, prior, method, draws=DRAWS, nfe=NFE, seed=0, progress=False)
    images[method] = torch.from_numpy(posteriors[method].mean().values)[0]
    print(method, posteriors[method].diagnostics["seconds"], "seconds")

# %%
scores = {name: plane_scores(truth, image) for name, image in images.items() if name != "truth"}
for name, found in scores.items():
    print(f"{name:<12}", "  ".join(f"{plane} {psnr:.2f} dB, SSIM {ssim:.3f}" for plane, (psnr, ssim) in found.items()))

# %% [markdown]
# ## Three planes
#
# Slices were reconstructed in the axial plane. Whether they fit together shows in the other two.

# %%
fig, axes = plt.subplots(3, 5, figsize=(13, 8), layout="constrained")
spread = torch.from_numpy(posteriors["dds3d"].std().values)[0]
shown = {**images, "std of dds3d": spread}
for row, plane in enumerate(PLANES):
    for ax, (name, image) in zip(axes[row], shown.items(), strict=True):
        at = image.shape[row] // 2
        bright = float(spread.quantile(0.998)) if "std" in name else float(truth.abs().quantile(0.999))
        cut = image.select(row, at).abs()
        ax.imshow(cut if row == 0 else cut.flip(0), cmap="magma" if "std" in name else "gray", vmin=0, vmax=bright)
        ax.set_title(f"{name}, {plane}", fontsize=9)
        ax.set_axis_off()

# %% [markdown]
# ## Back to DICOM
#
# Mean and standard deviation become derived series in the study of the original, in the place of the binned volume.

# %%
out = posteriors["dds3d"].save(work / "out", format="dicom", like=small)
back = read_volume(work / "out" / "mean")
print(sorted(path.name for path in Path(out).iterdir()))
print("voxels stand within", np.abs(back.affine - small.affine).max(), "mm of where they stood")

# %%
assert np.allclose(back.affine, small.affine, atol=1e-3)
gain = np.mean([scores["dds3d"][plane][0] - scores["zero-filled"][plane][0] for plane in PLANES])
print(f"dds3d is {gain:.2f} dB above zero-filling, the mean of the three planes")
assert gain > 1
