"""What a training run is made of: a YAML file checked field by field."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from invdiff.configs.reading import Strict, read_config
from invdiff.training.data_config import DataConfig, FieldsConfig, ImagesConfig, MeasurementsConfig

__all__ = [
    "DataConfig",
    "FieldNetworkConfig",
    "FieldsConfig",
    "ImagesConfig",
    "NetworkConfig",
    "TrainConfig",
    "load_config",
]


def _kind(default: str) -> Discriminator:
    """Tell the members of a union apart by their field `kind`, which may be left out for the first of them."""

    def of(value: Any) -> str:
        return str(value.get("kind", default) if isinstance(value, dict) else getattr(value, "kind", default))

    return Discriminator(of)


class NetworkConfig(Strict):
    """The backbone's shape (see `invdiff.networks.unet.UNet`)."""

    kind: Literal["unet"] = "unet"
    channels: list[int] = [96, 128, 160]
    blocks: int = 2
    embedding: int = 128
    fold: int = 2


class FieldNetworkConfig(Strict):
    """The backbone for fields (see `invdiff.networks.field_unet.FieldUNet`)."""

    kind: Literal["field_unet"]
    channels: list[int] = [48, 64]
    blocks: int = Field(1, ge=1)
    embedding: int = Field(64, ge=1)
    fold: int = Field(1, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)


Data = Annotated[
    Annotated[DataConfig, Tag("phantoms")]
    | Annotated[ImagesConfig, Tag("images")]
    | Annotated[MeasurementsConfig, Tag("measurements")]
    | Annotated[FieldsConfig, Tag("fields")],
    _kind("phantoms"),
]
Network = Annotated[
    Annotated[NetworkConfig, Tag("unet")] | Annotated[FieldNetworkConfig, Tag("field_unet")], _kind("unet")
]


class TrainConfig(Strict):
    """A whole run. Sigma is in units of the images, whose bright tissue has magnitude about 1."""

    name: str
    description: str = ""
    domain: Literal["real", "complex"] = "complex"
    data: Data = DataConfig()
    network: Network = NetworkConfig()
    objective: Literal["edm", "flow"] = Field("edm", description="EDM preconditioning, or linear flow matching")
    start_from: str | None = None
    steps: int = Field(20000, ge=1)
    batch: int = Field(16, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    warmup: int = Field(300, ge=0)
    decay_from: float = Field(0.5, ge=0, le=1, description="fraction of the steps after which the rate falls to 1 %")
    noise_levels: Literal["log-normal", "uniform-time"] = "log-normal"
    log_sigma_mean: float = -2.0
    log_sigma_std: float = Field(1.4, gt=0)
    sigma_min: float = Field(0.003, gt=0)
    sigma_max: float = Field(20.0, gt=0)
    balance: Literal["no", "uncertainty", "pcgrad"] = "no"
    intervals: int = Field(5, ge=2, description="of noise, among which `balance` balances the loss")
    ema: float = Field(0.999, ge=0, lt=1)
    clip: float = Field(1.0, gt=0)
    mixed_precision: Literal["no", "bf16"] = "bf16"
    checkpoint_every: int = Field(500, ge=1)
    validate_every: int = Field(0, ge=0, description="steps between validations; 0 for one at the end")
    seed: int = 0


def load_config(name: str) -> TrainConfig:
    """Read a configuration from a path, or by the name of one shipped in ``invdiff/configs``.

    Raises:
        FileError: there is no such file and no shipped configuration of that name.
        InputError: a field is unknown or out of range; the message names it.
    """
    return read_config(name, TrainConfig, Path(__file__).parent.parent / "configs")
