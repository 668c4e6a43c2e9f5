import importlib.util
import json
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
STORIES = [path for path in sorted(FOLDER.glob("*.py")) if path.name != "make.py"]


@pytest.mark.parametrize("script", STORIES, ids=lambda path: path.stem)
def test_notebook_is_its_script_without_outputs(script: Path) -> None:
    spec = importlib.util.spec_from_file_location("make", FOLDER / "make.py")
    assert spec is not None and spec.loader is not None
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    text = script.with_suffix(".ipynb").read_text(encoding="utf-8")
    assert text == make.notebook(script.read_text(encoding="utf-8")), "run: python notebooks/make.py"
    cells = json.loads(text)["cells"]
    assert {cell["cell_type"] for cell in cells} == {"markdown", "code"}
    for cell in cells:
        assert not cell.get("outputs")
        if cell["cell_type"] == "code":
            compile(cell["source"], script.name, "exec")


def test_readme_example_runs(tmp_path: Path, monkeypatch, capsys) -> None:
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    first, _, operator = [part.split("```")[0] for part in readme.split("```python\n")[1:]]
    scope: dict = {}
    exec(compile(first, "README.md", "exec"), scope)
    assert scope["posterior"].draws.shape == (64, 40)
    # y is noiseless and the posterior exact: chi2 of the draws lies below its mean, well above zero.
    assert 0.2 < scope["posterior"].diagnostics["chi2_ratio"] < 1.5
    assert "(64, 40)" in capsys.readouterr().out
    exec(compile(operator, "README.md", "exec"), scope)
    kernel = torch.fft.rfft2(torch.rand(64, 64, generator=torch.Generator().manual_seed(0)))
    x, y = torch.randn(2, 3, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    blur = scope["Blur"](kernel)
    left, right = (blur.forward(x) * y).sum(), (x * blur.adjoint(y)).sum()
    assert abs(left - right) < 1e-4 * (blur.forward(x).norm() * y.norm())
