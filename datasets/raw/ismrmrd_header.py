"""What we use of the ISMRMRD header (an XML text): matrices, fields of view, encoding limits.

As a mapping, each entry present where the XML has it:

- ``encoded_matrix``, ``recon_matrix``: ``[x, y, z]``, x along the readout (rows of k-space), y the phase encodes.
- ``encoded_fov_mm``, ``recon_fov_mm``: the same of the fields of view, in mm.
- ``limits``: ``minimum, maximum, center`` of the phase encodes that were acquired; ``padding``: ``[first, stop]``, the
  columns that they fill when the centre stands at ``y // 2``.
- ``receiver_channels``: what the scanner says of itself; often more than there are coils.
- ``limits_2``: as ``limits``, of the second phase encoding (z). ``trajectory``, ``calibration``: words.
- ``noise_bandwidth``: of the noise scan, relative to that of its samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from invdiff.errors import FormatError

__all__ = ["compose", "parse"]

_NAMESPACE = "http://www.ismrm.org/ISMRMRD"
_LIMITS = ("minimum", "maximum", "center")


def parse(text: str | bytes, where: str, encoding: int = 0) -> dict[str, Any]:
    """Read the XML; `where` begins the messages, `encoding` counts from 0 where there are several.

    Raises FormatError for bad XML, or words where numbers belong.
    """
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, TypeError, ValueError) as error:
        raise FormatError(f"{where} is not XML ({error}); expected an ISMRMRD header") from error

    def text_of(*tags: str) -> str | None:
        found: str | None = root.findtext("/".join("{*}" + tag for tag in tags))
        return found

    def numbers(place: str, names: Sequence[str], kind: type[int] | type[float] = int) -> list[Any] | None:
        path = place.replace("encoding/", f"encoding[{encoding + 1}]/").split("/")
        texts = [text_of(*path, name) for name in names]
        if None in texts:
            return None
        try:
            return [kind(t) for t in texts if t is not None]
        except ValueError as error:
            raise FormatError(f"{where} has {texts} as {place} {', '.join(names)}; expected numbers") from error

    header: dict[str, Any] = {}
    for name in ("encoded", "recon"):
        header[f"{name}_matrix"] = numbers(f"encoding/{name}Space/matrixSize", "xyz")
        header[f"{name}_fov_mm"] = numbers(f"encoding/{name}Space/fieldOfView_mm", "xyz", float)
    limits = numbers("encoding/encodingLimits/kspace_encoding_step_1", _LIMITS)
    if limits:
        header["limits"] = dict(zip(_LIMITS, limits, strict=True))
        if header["encoded_matrix"]:
            first = header["encoded_matrix"][1] // 2 - header["limits"]["center"]
            header["padding"] = [first, first + header["limits"]["maximum"] + 1]
    limits = numbers("encoding/encodingLimits/kspace_encoding_step_2", _LIMITS)
    header["limits_2"] = dict(zip(_LIMITS, limits, strict=True)) if limits else None
    header["trajectory"] = text_of(f"encoding[{encoding + 1}]", "trajectory")
    header["calibration"] = text_of(f"encoding[{encoding + 1}]", "parallelImaging", "calibrationMode")
    bandwidth = numbers("acquisitionSystemInformation", ["relativeReceiverNoiseBandwidth"], float)
    header["noise_bandwidth"] = bandwidth[0] if bandwidth else None
    channels = numbers("acquisitionSystemInformation", ["receiverChannels"])
    header["receiver_channels"] = channels[0] if channels else None
    return {key: value for key, value in header.items() if value is not None}


def compose(header: Mapping[str, Any], shape: tuple[int, ...], recon: tuple[int, ...] | None) -> str:
    """Write the XML for k-space of `shape` and reconstructions of shape `recon`; `header` goes before what they say."""
    height, width = shape[-2:]
    encoded = header.get("encoded_matrix", [height, width, 1])
    default = [height, width, 1] if recon is None else [*recon[-2:], 1]
    limits = header.get("limits", {"minimum": 0, "maximum": width - 1, "center": width // 2})
    channels = header.get("receiver_channels", shape[1] if len(shape) == 4 else 1)
    step = "".join(f"<{name}>{limits[name]}</{name}>" for name in _LIMITS)
    return (
        f'<?xml version="1.0"?><ismrmrdHeader xmlns="{_NAMESPACE}"><acquisitionSystemInformation>'
        f"<receiverChannels>{channels}</receiverChannels></acquisitionSystemInformation><encoding>"
        + _space("encodedSpace", encoded, header.get("encoded_fov_mm"))
        + _space("reconSpace", header.get("recon_matrix", default), header.get("recon_fov_mm"))
        + f"<encodingLimits><kspace_encoding_step_1>{step}</kspace_encoding_step_1></encodingLimits>"
        "<trajectory>cartesian</trajectory></encoding></ismrmrdHeader>"
    )


def _space(tag: str, matrix: Sequence[int], fov: Sequence[float] | None) -> str:
    sizes = [("matrixSize", matrix), *([("fieldOfView_mm", fov)] if fov else [])]
    inner = "".join(
        f"<{name}>{''.join(f'<{axis}>{v}</{axis}>' for axis, v in zip('xyz', values, strict=True))}</{name}>"
        for name, values in sizes
    )
    return f"<{tag}>{inner}</{tag}>"
