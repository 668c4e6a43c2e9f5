"""Turn the ``# %%`` scripts of this folder into notebooks without outputs: ``python notebooks/make.py``."""

from __future__ import annotations

import json
import re
from pathlib import Path


def notebook(script: str) -> str:
    """The notebook (format 4.5) of a script as JSON text; the same script gives the same text."""
    cells = []
    for part in re.split(r"^# %%", script, flags=re.MULTILINE)[1:]:
        mark, _, body = part.partition("\n")
        body = body.strip("\n")
        cell: dict[str, object] = {"id": f"cell-{len(cells)}", "metadata": {}}
        if mark.strip() == "[markdown]":
            cell |= {"cell_type": "markdown", "source": re.sub(r"^# ?", "", body, flags=re.MULTILINE)}
        else:
            cell |= {"cell_type": "code", "source": body, "execution_count": None, "outputs": []}
        cells.append(cell)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    content = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.name != Path(__file__).name:
            path.with_suffix(".ipynb").write_text(notebook(path.read_text(encoding="utf-8")), encoding="utf-8")
