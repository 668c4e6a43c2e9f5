"""What ``invdiff molecule run`` does, as a YAML file checked field by field."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from invdiff.configs.reading import Strict, read_config

__all__ = ["MoleculeConfig", "load_config"]


class SystemConfig(Strict):
    """What is sampled: an analytic energy, or a molecule with a force field or quantum chemistry."""

    kind: Literal["double_well", "muller_brown", "lennard_jones", "molecule"]
    options: dict[str, Any] = Field({}, description="arguments of the analytic energy, or of the named molecule")
    measurement: str | None = Field(None, description="data on the molecule: the posterior under them is sampled")
    name: str | None = Field(None, description="a molecule that ships with the package")
    file: str | None = Field(None, description="or a structure file: PDB, prmtop, gro, OpenMM System, xyz")
    positions: str | None = Field(None, description="inpcrd, PDB or gro that goes with the file")
    force_fields: list[str] = ["amber14/protein.ff14SB.xml"]
    solvent: Literal["obc1", "obc2"] | None = None
    backend: Literal["torch", "openmm", "auto", "xtb", "ase", "python"] = "torch"
    backend_options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _one_molecule(self) -> SystemConfig:
        if self.kind == "molecule" and (self.name is None) == (self.file is None):
            raise ValueError("a molecule needs either name or file")
        return self


class VariableConfig(Strict):
    """One collective variable; atoms count from 0, lengths in nm, angles in rad."""

    kind: Literal[
        "coordinate",
        "torsion",
        "distance",
        "angle",
        "coordination",
        "radius_of_gyration",
        "difference",
        "combination",
        "rmsd",
        "path",
        "tica",
        "learned",
    ]
    atoms: list[int] = []
    others: list[int] = Field([], description="of a difference: the atoms of the distance that is subtracted")
    index: int = Field(0, ge=0, description="of a coordinate")
    r0: float | None = Field(None, gt=0, description="of a coordination number, in nm")
    parts: list[VariableConfig] = Field([], description="of a combination or tica: what is combined")
    weights: list[float] = Field([], description="of a combination")
    file: str | None = Field(None, description="rmsd: reference; path, tica: frames; learned: a TorchScript network")
    topology: str | None = Field(None, description="PDB that an XTC or DCD file needs")
    lag: int = Field(1, ge=1, description="of tica, in frames")


class AxisConfig(Strict):
    """Grid and kernel of the bias along one variable."""

    low: float
    high: float
    points: int = Field(150, ge=4)
    width: float = Field(gt=0)


class BiasConfig(Strict):
    """The well-tempered bias."""

    gamma: float = Field(gt=1)
    height: float = Field(gt=0, description="kT, where all samples of a batch fall together")
    axes: list[AxisConfig] = Field(min_length=1, max_length=3)
    start: str | None = Field(None, description="PLUMED HILLS, or a folder of OpenMM bias files, to go on from")


class RestraintConfig(Strict):
    """Zero from low to high, then a parabola of the given stiffness in kT per unit of the variable squared."""

    name: str
    variable: VariableConfig
    low: float | None = None
    high: float | None = None
    stiffness: float = Field(gt=0)


class WindowConfig(Strict):
    """Where a soft dihedral's turn begins in internal coordinates, in rad."""

    atoms: list[int] = Field(min_length=4, max_length=4)
    low: float


class StartConfig(Strict):
    """Where the data for the warm start come from: short dynamics around one configuration."""

    x: list[float] | None = Field(None, description="of an analytic energy; a molecule has its own")
    spread: float = Field(0.05, ge=0)
    walkers: int = Field(64, ge=1)
    steps: int = Field(500, ge=1)
    skip: int = Field(100, ge=0)
    every: int = Field(10, ge=1)
    step: float = Field(0.1, gt=0, description="MALA's step, or ps of Langevin dynamics")
    hydrogen_mass: float = Field(1.008, gt=0, description="Da in these dynamics; no average over x depends on it")


class NetworkConfig(Strict):
    """Control and corrector."""

    kind: Literal["mlp", "equivariant"] = "mlp"
    width: int = Field(96, ge=4)
    depth: int = Field(3, ge=1)
    radial: int = Field(16, ge=2, description="of the equivariant network: Gaussians in the distance")
    reach: float = Field(5.0, gt=0, description="of the equivariant network: largest distance resolved")
    exchangeable: bool = Field(False, description="atoms of one element are the same")
    gain: float = Field(1.0, gt=0, description="typical size of the control")
    finest: float | None = Field(
        None, gt=0, description="smallest length resolved; the control then grows as 1/sqrt(noise to come + finest^2)"
    )
    scale: float = Field(1.0, gt=0, description="of the MLP: typical size of x")


class ScheduleConfig(Strict):
    """Noise of the base process, in the unit of x."""

    kind: Literal["edm", "geometric", "constant"] = "edm"
    low: float = Field(0.01, gt=0)
    high: float = Field(3.0, gt=0)
    rho: float = Field(3.0, gt=0)


class StageConfig(Strict):
    """One round of adjoint, then corrector matching."""

    adjoint: int = Field(ge=1)
    corrector: int = Field(0, ge=0)
    deposit: bool = True
    height: float = Field(1.0, gt=0)


class TrainingConfig(Strict):
    """Sizes of the training (see `invdiff.bridges.asbs.Training`)."""

    stages: list[StageConfig] = Field(min_length=1)
    warm: int = Field(0, ge=0)
    fresh: int = Field(512, ge=1)
    first: int = Field(2048, ge=1)
    buffer: int = Field(4096, ge=1)
    batch: int = Field(512, ge=1)
    updates: int = Field(20, ge=1)
    steps: int = Field(60, ge=1)
    rate: float = Field(1e-3, gt=0)
    rate_end: float = Field(1e-4, gt=0)
    largest: float = Field(100.0, gt=0)
    refine: int = Field(0, ge=0)
    refine_step: float = Field(0.1, gt=0)


class RefineConfig(Strict):
    """Chains in the frozen bias from the sampler's draws; what is reported comes from them."""

    method: Literal["mala", "langevin"] = "mala"
    walkers: int = Field(512, ge=2)
    burn: int = Field(200, ge=0)
    steps: int = Field(2000, ge=1)
    every: int = Field(5, ge=1)
    deposit_every: int = Field(
        0,
        ge=0,
        description="steps between deposits while burning in, by which chains correct the bias; 0 for none",
    )
    keep: int = Field(200, ge=1, description="steps between configurations that are kept")
    step: float = Field(0.3, gt=0, description="MALA's first step in the unit of x, or ps of Langevin dynamics")
    friction: float = Field(5.0, gt=0, description="1/ps")
    hydrogen_mass: float = Field(1.008, gt=0, description="Da in these dynamics; no average over x depends on it")


class MetadynamicsConfig(Strict):
    """Well-tempered metadynamics by OpenMM, steps of 1 fs, on the bias' variables."""

    steps: int = Field(4_000_000, ge=1000)
    gamma: float = Field(8.0, gt=1)
    height: float = Field(1.0, gt=0, description="kJ/mol")
    width: float | None = Field(None, gt=0, description="of the hills; that of the bias where it is null")
    pace: int = Field(500, ge=1)
    seeds: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field([0, 1], min_length=1)


class CompareConfig(Strict):
    """Runs beside it, for judging: the sampler without bias, or metadynamics with OpenMM."""

    unbiased: bool = False
    warm: bool = Field(True, description="whether the sampler without bias gets the warm start too")
    metadynamics: MetadynamicsConfig | None = None


class StatesConfig(Strict):
    """Two states, each one interval per collective variable; null is an open end."""

    a: list[tuple[float | None, float | None]]
    b: list[tuple[float | None, float | None]]


class MoleculeConfig(Strict):
    """A whole run."""

    name: str
    description: str = ""
    system: SystemConfig
    temperature: float | None = Field(None, gt=0, description="K; none for analytic energies, which are in kT")
    variables: list[VariableConfig] = Field(min_length=1, max_length=3)
    bias: BiasConfig | None = None
    states: StatesConfig
    symmetric: bool = Field(False, description="the two states are images of each other: exactly 0 between them")
    restraints: list[RestraintConfig] = []
    coordinates: Literal["cartesian", "internal"] = "cartesian"
    windows: list[WindowConfig] = []
    source: float = Field(1.0, ge=0, description="standard deviation of the start; 0 is Adjoint Sampling")
    schedule: ScheduleConfig = ScheduleConfig()
    network: NetworkConfig = NetworkConfig()
    start: StartConfig = StartConfig()
    training: TrainingConfig
    samples: int = Field(4000, ge=10, description="draws of the sampler itself, for comparison")
    refine: RefineConfig = RefineConfig()
    compare: CompareConfig = CompareConfig()
    trajectory: Literal["xtc", "dcd"] = Field("xtc", description="of a molecule: rounded to 0.001 nm, or float32")
    seeds: list[Annotated[int, Field(ge=0, lt=2**63)]] = Field([0], min_length=1)
    checkpoint_every: float = Field(20.0, gt=0, description="seconds")

    @model_validator(mode="after")
    def _fits(self) -> MoleculeConfig:
        k = len(self.variables)
        if self.bias is not None and len(self.bias.axes) != k:
            raise ValueError(f"bias has {len(self.bias.axes)} axes for {k} variables; one each")
        if len(self.states.a) != k or len(self.states.b) != k:
            raise ValueError(f"states a and b need one interval for each of {k} variables")
        if self.refine.keep % self.refine.every or self.refine.steps < self.refine.keep:
            raise ValueError("refine.keep must be a multiple of refine.every and not above refine.steps")
        if self.refine.steps < 2 * self.refine.every:
            raise ValueError("refine.steps must be twice refine.every at least: rates need times to compare")
        walks = bool(self.training.warm) or self.coordinates == "internal"  # the short dynamics, see `seed._start`
        if walks and self.start.steps // self.start.every * self.start.every <= self.start.skip:
            raise ValueError("start.skip leaves nothing of start.steps, every start.every of which is kept")
        other = self.compare.metadynamics
        if other is not None and (self.bias is None or self.system.kind != "molecule"):
            raise ValueError("compare.metadynamics needs a molecule and a bias whose axes it can share")
        for name, seeds in (("seeds", self.seeds), ("compare.metadynamics.seeds", other.seeds if other else [])):
            if len(set(seeds)) < len(seeds):
                raise ValueError(f"{name} are {seeds}; the same seed twice is the same run")
        if self.refine.method == "langevin" and self.system.kind != "molecule":
            raise ValueError("refine.method langevin needs masses, which only a molecule has; use mala")
        return self


def load_config(name: str) -> MoleculeConfig:
    """Read a configuration from a path, or by the name of one that ships with the package.

    Raises:
        FileError: there is no such file and no shipped configuration of that name.
        InputError: a field is unknown, missing or out of range; the message names it.
    """
    return read_config(name, MoleculeConfig, Path(__file__).parent.parent / "configs" / "molecules")
