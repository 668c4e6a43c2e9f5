"""What a configuration says of its data: one class for each kind of source."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from invdiff.configs.reading import Strict

__all__ = ["DataConfig", "FieldsConfig", "ImagesConfig", "MeasurementsConfig"]


class DataConfig(Strict):
    """Procedural images: how many to make, of what kinds, and how patches are cut from them."""

    kind: Literal["phantoms"] = "phantoms"
    kinds: list[Literal["head", "body", "leaves", "ct"]] = ["head", "body", "leaves"]
    pool: int = Field(2000, ge=8, description="images of each size, made once, then cut into patches again and again")
    sizes: list[Annotated[int, Field(ge=32)]] = Field([256, 128], min_length=1, description="pixels across")
    patch: int = Field(64, ge=16)
    texture: float = Field(0.1, ge=0, description="largest relative amplitude of the grain laid over the images")
    position: bool = Field(False, description="tell the network where in its image a patch lies; no flips, no zoom")
    water: float | None = Field(
        None, gt=0, description="value of water in the images, air 0, which are then not scaled; None: relative units"
    )
    seed: int = 0


class ImagesConfig(Strict):
    """Images from files: DICOM, NIfTI, raw k-space and whatever else `invdiff.datasets` reads."""

    kind: Literal["images"]
    paths: list[str] = Field(min_length=1, description="files, or folders that are searched with all they contain")
    patch: int = Field(64, ge=16)
    position: bool = Field(False, description="tell the network where in its image a patch lies; no flips")
    flips: bool = Field(True, description="mirror and turn the patches; never where position is on")
    held_out: float = Field(0.1, gt=0, lt=1, description="share of the files (of the slices of a single file)")
    shift: float = Field(0.0, description="with factor: the images are (value - shift)/factor inside the prior")
    factor: float | None = Field(None, gt=0, description="None: each volume's 99 % magnitude becomes 0.8")

    @model_validator(mode="after")
    def _shift_needs_factor(self) -> ImagesConfig:
        if self.shift and self.factor is None:
            raise ValueError("shift goes with factor; give both, or neither for relative units")
        return self


class MeasurementsConfig(Strict):
    """Measurements alone (`invdiff.training.from_measurements`): files that hold many, by operators of many kinds."""

    kind: Literal["measurements"]
    paths: list[str] = Field([], description="measurement files, or folders of them")
    gaussian_rounds: int = Field(4, ge=0, description="rounds with a Gaussian field, before the network's")
    rounds: int = Field(3, ge=1, description="of drawing all images anew and training on them for `steps`")
    last_steps: int | None = Field(None, ge=1, description="of the last round; None for as many as the others")
    draws: int = Field(1, ge=1, description="of each image in a round")
    nfe: int = Field(16, ge=2, description="network evaluations per draw")
    iterations: int = Field(3, ge=1, description="conjugate-gradient steps at each evaluation")
    sigma_max: float | None = Field(None, gt=0, description="where draws start; None for the prior's highest level")
    chunk: int = Field(64, ge=1, description="images drawn at once")
    patch: int | None = Field(None, ge=8, description="side of the training crops; None for whole images")


class FieldsConfig(Strict):
    """Gridded fields of many times from NetCDF, Zarr or GRIB (`invdiff.training.fields`), split in time."""

    kind: Literal["fields"]
    paths: list[str] = Field(min_length=1, description="files, in any order; $VARIABLES are replaced")
    variables: list[str] | None = Field(None, description="names in the files; all if not given")
    select: dict[str, tuple[int, int]] = Field(
        {}, description="first and last + 1 position along dimensions of the files"
    )
    static: list[str] = Field([], description="files of fields that do not change (orography, mask), on the same grid")
    train_until: str = Field(description="times before this are trained on, ISO 8601")
    validate_until: str | None = Field(None, description="times from train_until to this are held out; None for all")
    offsets: list[float] = Field([-1.0, 0.0, 1.0], min_length=1, description="of a window's states, hours")
    rank: int = Field(300, ge=1, description="directions of the Gaussian part")
    reach_km: float = Field(1600.0, gt=0, description="distance beyond which the Gaussian has no correlation")
    reach_hours: float = Field(24.0, gt=0, description="the same in time")
    shrink: float = Field(0.03, ge=0, description="variance added to the Gaussian, as a share of each value's own")
    blocks: int = Field(3, ge=2, description="of time, for cross-fitting")
