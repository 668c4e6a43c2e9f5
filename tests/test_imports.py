"""The one-way rule: which room of the package may import which; and third-party imports are declared.

The rule holds for every import statement, wherever it stands (inside functions and under TYPE_CHECKING too).
Only `invdiff/__init__.py`, the public face, loads names from anywhere, lazily.
"""

import ast
import re
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any, NamedTuple

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FACE = "invdiff"
SAME_ROOM = {
    "storage": "measurement",  # a Measurement and its file layout
    "instruments": "measurement",  # several of them as one
    "quantised": "noise",
}

# Each room and those it rests on directly; it may import these, and all that these rest on.
RESTS_ON: dict[str, tuple[str, ...]] = {
    "errors": (),
    "files": ("errors",),
    "random": ("errors",),
    "linalg": ("random",),
    "operators": ("linalg", "files"),
    "noise": ("operators",),
    "hdf5": ("files",),
    "measurement": ("noise", "hdf5"),
    "datasets": ("measurement",),
    "schedules": ("linalg",),
    "networks": ("linalg",),
    "weights": (),
    "configs": ("errors",),
    "priors": ("schedules", "networks", "weights", "files"),
    "solvers": ("schedules",),
    "pictures": ("errors",),
    "posterior": ("datasets", "pictures"),
    "units": ("priors", "measurement"),
    "guidance": ("priors", "solvers", "measurement"),
    "samplers": ("guidance", "posterior", "policies", "units"),
    "policies": ("guidance", "posterior"),
    "energies": ("datasets",),
    "bridges": ("guidance", "posterior", "energies"),
    "engine": ("samplers", "policies", "bridges", "datasets"),
    "trust": ("posterior", "guidance"),
    "sampling": ("engine", "units", "trust"),
    # The judges and writers see everything up to here; of the rest, only training and cli see them.
    "metrics": ("sampling", FACE),
    "baselines": ("sampling", FACE),
    "validation": ("metrics", "baselines"),
    "report": ("metrics", "baselines"),
    "training": ("sampling", "configs", "validation", "report"),
    # Workflows: a whole job each, file to file; only the command line sees them.
    "simulation": ("posterior",),
    "reconstruction": ("validation", "report", "simulation"),
    "demo": ("validation", "report"),
    "acquisition": ("validation", "report"),
    "molecules": ("validation", "report", "configs"),
    "cli": ("training", "reconstruction", "demo", "acquisition", "molecules"),
    FACE: (),
}


class Import(NamedTuple):
    """One imported module, and where: `inner` is true inside a function or under TYPE_CHECKING."""

    module: str
    line: int
    inner: bool


def imports(code: str) -> Iterator[Import]:
    """All imports of a module, `from a import b` as a.b, and import_module("a.b")."""
    tree = ast.parse(code)
    inner_lines: set[int] = set()
    for node in ast.walk(tree):
        in_function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if in_function or for_types:
            assert isinstance(node, ast.stmt)
            inner_lines.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and node.args:
            if isinstance(node.args[0], ast.Constant):
                names = [str(node.args[0].value)]
        for name in names:
            assert isinstance(node, (ast.Import, ast.ImportFrom, ast.Call))
            yield Import(name, node.lineno, node.lineno in inner_lines)


def sources(root: Path) -> Iterator[tuple[str, Path]]:
    """(dotted module name, file) of the whole package in a checkout."""
    for top in ("invdiff", "operators", "datasets"):
        for path in sorted((root / top).rglob("*.py")):
            inner = path.relative_to(root / top).with_suffix("").parts
            linked = top == "invdiff" and inner[0] in (
                "operators",
                "datasets",
            )  # seen under their own folders
            if not linked:
                yield ".".join(["invdiff", *([] if top == "invdiff" else [top]), *inner]), path


def room_of(module: str) -> str:
    """The room of a dotted name; `invdiff.sample` and other names of the public face are the face's."""
    top = module.split(".")[1] if "." in module else FACE
    top = SAME_ROOM.get(top, top)
    return top if top in RESTS_ON else FACE


def may_import(room: str) -> set[str]:
    allowed, waiting = {room}, [room]
    while waiting:
        for below in RESTS_ON[waiting.pop()]:
            if below not in allowed:
                allowed.add(below)
                waiting.append(below)
    return allowed


def offenders(root: Path) -> list[str]:
    found = []
    for module, path in sources(root):
        if module == "invdiff.__init__":
            continue
        room = room_of(module)
        for item in imports(path.read_text(encoding="utf-8")):
            ours = item.module.split(".")[0] == "invdiff" and item.module != "invdiff.__version__"
            if ours and room_of(item.module) not in may_import(room):
                found.append(f"{path.relative_to(root)}:{item.line}: {room} imports {item.module}")
    return found


def test_no_import_runs_back_up() -> None:
    assert offenders(ROOT) == []


def test_every_module_has_a_room() -> None:
    # A new room is entered into RESTS_ON, where the rule for it can be seen.
    tops = {module.split(".")[1] for module, _ in sources(ROOT)} - {"__init__"}
    assert sorted(tops - set(RESTS_ON) - set(SAME_ROOM)) == []


def test_rule_has_no_cycle() -> None:
    for room, below in RESTS_ON.items():
        assert all(room not in may_import(other) for other in below), room


@pytest.mark.parametrize(
    ("file", "statement"),
    [
        ("operators/mri/sense.py", "from invdiff.noise import Gaussian"),
        ("invdiff/noise.py", "def f():\n    import invdiff.measurement"),
        ("invdiff/priors/learned.py", "from invdiff import sample"),
        ("invdiff/solvers/heun.py", "from invdiff.priors import contract"),
        ("invdiff/guidance/dps.py", "from invdiff import samplers"),
        ("invdiff/engine/run.py", "if TYPE_CHECKING:\n    from invdiff.report.table import Table"),
        ("invdiff/metrics/image.py", "import_module('invdiff.cli')"),
        ("datasets/raw/npy.py", "import invdiff.guidance.dps as dps"),
    ],
)
def test_offender_is_named(tmp_path: Path, file: str, statement: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(f"import math\nfrom invdiff.errors import InputError\n{statement}\n", encoding="utf-8")
    (found,) = offenders(tmp_path)
    assert file in found.replace("\\", "/")


def requirements(lines: list[str]) -> set[str]:
    return {normal(re.split(r"[<>=!~;\[ ]", line, maxsplit=1)[0]) for line in lines}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_third_party_imports_are_declared() -> None:
    # At the top of a module only what `pip install invdiff` brings, inside functions the extras as well.
    core = requirements(PROJECT["dependencies"])
    extras = requirements(
        [r for extra, lines in PROJECT["optional-dependencies"].items() if extra not in ("docs", "test") for r in lines]
    )
    homes = packages_distributions()
    found = []
    for _, path in sources(ROOT):
        for item in imports(path.read_text(encoding="utf-8")):
            top = item.module.split(".")[0]
            if top == "invdiff" or top in sys.stdlib_module_names:
                continue
            if not {normal(home) for home in homes.get(top, [top])} & (core | extras if item.inner else core):
                found.append(f"{path.relative_to(ROOT)}:{item.line}: {item.module}")
    assert found == []


def test_torchvision_and_lightning_are_never_imported() -> None:
    # A CUDA build of torchvision beside a CPU torch breaks whatever imports it, and Lightning imports it.
    banned = {"torchvision", "lightning", "pytorch_lightning"}
    found = [
        f"{path.relative_to(ROOT)}:{item.line}: {item.module}"
        for _, path in sources(ROOT)
        for item in imports(path.read_text(encoding="utf-8"))
        if item.module.split(".")[0] in banned
    ]
    assert found == []
