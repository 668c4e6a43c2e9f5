"""A modality that the package does not have, in one class; `make.py` turns it into a notebook."""

# %% [markdown]
# # A new modality: photoacoustic tomography
#
# A short laser pulse heats tissue, the heated spots expand, and sound travels to sensors around the object. What a
# sensor hears at time t comes from all points at distance c t: an integral over a circle. The package knows nothing of
# it. This notebook adds it, has it checked, and draws from its posterior.

# %%
import math

import matplotlib.pyplot as plt
import torch

import invdiff
from invdiff.errors import InputError, ShapeError
from invdiff.linalg import cg
from invdiff.operators.base import LinearOperator
from invdiff.priors.gaussian_field import GaussianFieldPrior, matern
from invdiff.validation.targets import run_check

# %% [markdown]
# ## The operator
#
# A linear operator says what x and y look like and writes two functions. Here every pixel is shared between the two
# range bins that its distance from a sensor lies between: `forward` adds the shares up, `adjoint` reads them back, with
# the same weights, so that the pair is exact whatever the discretisation.


# %%
class Photoacoustic(LinearOperator):
    """``y(s, r) = integral of x over the circle of radius r about sensor s``, x in kPa, y in kPa mm.

    x is ``(N, 1, H, W)``, y ``(N, sensors, bins)``; bin k is at r = k * pixel, that is at time r / speed of sound.

    Args:
        sensors: positions (y, x) in mm from the centre of the image, ``(S, 2)``, outside of it.
        shape: (H, W). pixel: side of a pixel and width of a bin in mm. bins: how many are recorded.
    """

    def __init__(self, sensors: torch.Tensor, shape: tuple[int, int], pixel: float, bins: int) -> None:
        if sensors.ndim != 2 or sensors.shape[1] != 2:
            raise ShapeError(f"Photoacoustic got sensors of shape {tuple(sensors.shape)}; it expects (S, 2) in mm")
        self.sensors, self.pixel, self.bins = sensors, float(pixel), int(bins)
        self.domain_shape, self.range_shape = (1, *shape), (len(sensors), self.bins)
        axes = [(torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * pixel for n in shape]
        if bool((sensors.abs() < torch.tensor([float(a[-1]) for a in axes])).all(1).any()):
            raise InputError("Photoacoustic got a sensor inside the image; move it out, its positions are in mm")
        points = torch.cartesian_prod(*axes)
        distance = torch.cdist(sensors.double(), points) / pixel
        if float(distance.max()) >= bins - 1:
            raise InputError(
                f"{bins} bins end before the farthest pixel, at {float(distance.max()):.0f} bins; use more"
            )
        first = distance.floor().long()
        self.near = (first + bins * torch.arange(len(sensors))[:, None]).flatten()  # bin of a (sensor, pixel) pair
        self.share = (distance - first).float()  # of the pixel that belongs to the next bin

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pixel * x.flatten(1)[:, None]  # area of a pixel over width of a bin
        y = x.new_zeros(len(x), math.prod(self.range_shape))
        y.index_add_(1, self.near, (x * (1 - self.share)).flatten(1))
        y.index_add_(1, self.near + 1, (x * self.share).flatten(1))
        return y.reshape(len(x), *self.range_shape)

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        near, far = (y.flatten(1)[:, k].reshape(-1, *self.share.shape) for k in (self.near, self.near + 1))
        x = self.pixel * (near * (1 - self.share) + far * self.share).sum(1)
        return x.reshape(len(y), *self.domain_shape)

    @classmethod
    def example(cls, rng: torch.Generator) -> "Photoacoustic":
        """Build a small instance, on which the conformance suite runs."""
        angles = 2 * math.pi * torch.rand(3, generator=rng)
        return cls(9 * torch.stack([angles.sin(), angles.cos()], 1), (6, 8), pixel=1.0, bins=16)


# %% [markdown]
# ## Is it right?
#
# The suite that the package runs on its own operators: adjoint, linearity, gradients of first and second order,
# batches, precisions, devices, refusal of what does not fit. In a terminal it is `invdiff check package:Photoacoustic`.

# %%
report = run_check("__main__:Photoacoustic")
print(report)
assert report.ok

# %% [markdown]
# The suite cannot know the physics. For that, one case with a known answer: a disc in the middle, so that all sensors
# hear the same, and a circle through its centre cuts it in (nearly) a diameter.

# %%
SIZE, PIXEL, RADIUS, BINS = 48, 0.5, 18.0, 80
angles = torch.deg2rad(torch.linspace(30, 150, 32))  # an arc above: elsewhere the body is in the way
sensors = RADIUS * torch.stack([-angles.sin(), angles.cos()], 1)
operator = Photoacoustic(sensors, (SIZE, SIZE), PIXEL, BINS)
print(operator)

grid = (torch.arange(SIZE) - (SIZE - 1) / 2) * PIXEL
disc = (grid[:, None] ** 2 + grid**2 < 5.0**2).float()[None, None]
heard = operator.forward(disc)[0, :, round(RADIUS / PIXEL)]
# The circle of radius R about the sensor is inside the disc of radius a for an arc of 4 R asin(a / 2 R).
expected = 4 * RADIUS * math.asin(5.0 / (2 * RADIUS))
print(
    f"arc of {float(heard.mean()):.2f} mm (from {float(heard.min()):.2f} to {float(heard.max()):.2f}), {expected:.2f}"
)
assert abs(float(heard.mean()) - expected) < 0.02 * expected

# %% [markdown]
# ## A measurement, and its posterior
#
# The object is a smooth random field, drawn from the prior itself, so that what the posterior says can be judged: a
# correct 90 % interval holds the truth in nine pixels of ten. For a Gaussian prior the default sampler is exact.

# %%
prior = GaussianFieldPrior(matern((SIZE, SIZE), std=1.0, length=6.0), mean=2.0)
truth = prior.sample(1, torch.Generator().manual_seed(1))
clean = operator.forward(truth)[0]
noise = invdiff.noise.Gaussian(1.0)  # kPa mm; the data are tens of these
y = clean + noise.sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(2))
measurement = invdiff.Measurement(y, operator, noise)
posterior = invdiff.sample(measurement, prior, draws=16, nfe=40, seed=0, progress=False)

mean, spread = (torch.from_numpy(v.values) for v in (posterior.mean(), posterior.std()))


def error(x: torch.Tensor) -> float:
    """Root of the mean squared error in kPa."""
    return float((x - truth).square().mean().sqrt())


# Conjugate gradients stopped early; at the number of steps that is best for the truth, which no real case allows.
tries = [cg(operator.normal, operator.adjoint(y[None]), iterations=n) for n in (3, 5, 8, 12, 20)]
least_squares = min(tries, key=error)
low, high = (torch.from_numpy(v.values) for v in posterior.interval(0.9))
coverage = float(((truth[0] >= low) & (truth[0] <= high)).float().mean())
print(f"error: least squares {error(least_squares):.3f} kPa, posterior mean {error(mean):.3f} kPa")
print(f"chi2 / expected {posterior.diagnostics['chi2_ratio']:.3f}, coverage of 90 % intervals {coverage:.3f}")

# %%
fig, axes = plt.subplots(1, 5, figsize=(15, 3.2), layout="constrained")
shown = {"truth": truth[0, 0], "least squares": least_squares[0, 0], "posterior mean": mean[0]}
axes[0].imshow(y.T, aspect="auto", cmap="gray")
axes[0].set(title="data", xlabel="sensor", ylabel="bin (0.5 mm)")
for ax, (title, image) in zip(axes[1:], shown.items(), strict=False):
    ax.imshow(image, cmap="gray", vmin=float(truth.min()), vmax=float(truth.max()))
    ax.set_title(title)
axes[4].imshow(spread[0], cmap="magma")
axes[4].set_title("std of the draws")

# %% [markdown]
# The draws differ far from the sensors, and along edges that run up and down, which no sensor above sees head-on. To
# keep the operator, put it into a package: `invdiff new-operator photoacoustic` writes one, with its tests and its
# entry point.

# %%
assert error(mean) < 0.8 * error(least_squares)
assert spread[0, SIZE // 2 :].mean() > 1.5 * spread[0, : SIZE // 2].mean()
assert 0.75 < coverage < 0.97
