"""Options of simulated scans, which two commands share, and of what is taken from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from invdiff.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from invdiff.simulation import CTScan, MRIScan

__all__ = [
    "Acceleration", "Arc", "Beam", "Centre", "Coils", "Counts", "Mask", "Noise", "Phase", "Slice", "VOLUME_METHODS",
    "Views", "Volume", "Water", "scan_of", "slices_of",
]  # fmt: skip


def _option(help: str, default: str, **more: Any) -> Any:
    return typer.Option(help=help, show_default=default, **more)


# What is for one volume, so that --volume need not be said; the samplers are invdiff.samplers.volume.named.NAMES,
# not imported here because `invdiff --help` must stay quick.
VOLUME_METHODS = ("mbir", "dds3d", "tpdm", "blend", "slicewise", "dds-shared", "dds-slerp", "fdk")

# None means not given, so that each default has one home: the fields of MRIScan and CTScan.
Coils = Annotated[int | None, _option("MRI: receive coils.", "8", min=1)]
Acceleration = Annotated[float | None, _option("MRI: undersampling.", "4")]
Mask = Annotated[str | None, _option("MRI: equispaced, random, gaussian or poisson.", "equispaced")]
Centre = Annotated[float | None, _option("MRI: fraction of k-space sampled fully in the middle.", "0.08")]
Phase = Annotated[bool | None, typer.Option("--phase/--no-phase", help="MRI: a smooth phase.", show_default="phase")]
Noise = Annotated[
    float | None, _option("MRI: noise over bright tissue; CT: std of line integrals, instead of counts.", "0.02")
]
Views = Annotated[int | None, _option("CT: number of views; of a file's, these many.", "60; of a file, all", min=1)]
Arc = Annotated[float | None, _option("CT: degrees that the views span.", "180, fan and cone 360")]
Beam = Annotated[str | None, _option("CT: parallel, fan or cone.", "parallel")]
Counts = Annotated[float | None, _option("CT: photons a channel through air.", "1e5")]
Water = Annotated[float | None, _option("CT: value of water where the file has no unit.", "1000")]
Volume = Annotated[bool, typer.Option("--volume", help="One 3D problem instead of slices.")]
Slice = Annotated[
    str | None, typer.Option("--slice", help="A slice, from 0, or several: 40, 40:44, 1,5,9.", show_default="all")
]


def scan_of(kind: str | None, given: dict[str, Any]) -> MRIScan | CTScan | None:
    """Options of a simulated scan from those that were given; None for `kind` None, where nothing may be given.

    Raises:
        UnknownNameError: the kind is neither "mri" nor "ct". InputError: an option belongs to the other, or to none.
    """
    from invdiff.simulation import CTScan, MRIScan

    given = {k: v for k, v in given.items() if v is not None and not (k == "volume" and v is False)}
    if kind is None:
        if given:
            raise InputError(f"--{', --'.join(given)}: for simulated data only; add --simulate mri or --simulate ct")
        return None
    classes: dict[str, type[MRIScan | CTScan]] = {"mri": MRIScan, "ct": CTScan}
    if kind not in classes:
        raise UnknownNameError(f"--simulate is {kind!r}; it expects mri or ct")
    wrong = [name for name in given if name not in classes[kind].__dataclass_fields__]
    if wrong:
        raise InputError(f"--{', --'.join(wrong)} cannot be used with --simulate {kind}")
    return classes[kind](**given)


def slices_of(text: str | None) -> int | list[int] | None:
    """Read "40", "40:44" (the last not included), "40:60:5" or "1,5,9"; None stays None.

    Raises:
        InputError: it is none of these.
    """
    if text is None:
        return None
    try:
        if ":" in text:
            ends = [int(part) for part in text.split(":")]
            numbers = list(range(*ends)) if len(ends) in (2, 3) else []
            if numbers:
                return numbers
        elif "," in text:
            return [int(part) for part in text.split(",")]
        else:
            return int(text)
    except ValueError:
        pass
    raise InputError(f"--slice is {text!r}; it expects a number (40), a range (40:44, without 44) or a list (1,5,9)")
