"""The sentences and the table of settings of a report."""

from __future__ import annotations

import html
import json
from typing import Any

from invdiff.posterior import Posterior

__all__ = ["plain_words", "settings_table"]

_HIDDEN = {"geometry", "invdiff_format", "invdiff_version", "file_unit", "options"}


def plain_words(posterior: Posterior) -> list[str]:
    """What a reader must know, one sentence each."""
    found = [f"{line[:1].upper()}{line[1:]}." for line in posterior.diagnostics.get("warnings", [])]
    attrs, draws = posterior.dataset.attrs, posterior.draws.sizes["draw"]
    if draws == 1:
        found.append("There is one draw only, so nothing is known about the uncertainty.")
    elif draws < 19:
        found.append(
            f"With {draws} draws the 90 % intervals are those of a normal distribution fitted to them; 19 or more"
            " draws need no such assumption."
        )
    if attrs.get("simulated"):
        found.append("The data were simulated from a known image; they are no measurement.")
    if "holdout_fraction" in attrs:
        found.append(f"{float(attrs['holdout_fraction']):.0%} of the data were held out and not used.")
    if "trajectory_variance" in posterior.dataset:
        found.append(
            "Where the map of wavering is bright, the sampler still changed its mind in its last steps; structures"
            " there are less to be trusted."
        )
    found.append("The images are reconstructions for research; they are no basis for a diagnosis.")
    return found


def settings_table(posterior: Posterior) -> str:
    """Options, versions and hashes as table rows."""
    attrs = posterior.dataset.attrs
    content: dict[str, Any] = {}
    try:
        content |= {f"--{k}": v for k, v in json.loads(str(attrs.get("options", "{}"))).items() if v is not None}
    except ValueError:
        content["options"] = attrs["options"]
    content |= {k: v for k, v in attrs.items() if k not in _HIDDEN and k not in ("method", "seed", "draws")}
    content |= {k: v for k, v in posterior.diagnostics.items() if isinstance(v, (int, float)) and k not in content}
    lines = [
        f"<tr><th scope=row>{html.escape(str(k))}</th><td>{html.escape(_text(v))}</td></tr>" for k, v in content.items()
    ]
    return f"<table><caption>Options, diagnostics, versions and hashes</caption>{''.join(lines)}</table>"


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
