"""An area of the workflow: what it declares, and what it plans from a config.

Files in a plan are written as Snakemake writes them: from the working directory, those of results with their folder.

An area is one class: its section of the config, its rules with what they ask a node for, its bundled samples, and a
plan. `splatdag.areas.AREAS` is the list of all; config, schema, `status`, `compare`, recordings, uploads, generated
files and the throttles of a cluster follow from it. No torch is imported here or by a plan; a plan starts nothing.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints

from splatdag.workflow.code_digest import code_digest
from splatdag.workflow.options import Options, SampleOptions, flags
from splatdag.workflow.site import LEAST_MEM_MB

if TYPE_CHECKING:
    from splatdag.workflow.backend import Backend

RECEIPT = "sample.json"
"""Last file of a bundled sample."""
RunName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*$", max_length=100)]
"""Name of a run that a config gives, and of its folder."""
GpuClassName = Literal["any", "h100"]


class CpuResources(Options):
    """What the jobs of a rule ask for; the second attempt asks for twice the memory and time, and so on."""

    threads: int = Field(2, ge=1)
    """CPUs."""
    mem_mb: int = Field(2_000, ge=LEAST_MEM_MB)
    """Memory (MB)."""
    runtime: int = Field(30, ge=1)
    """Time limit (minutes)."""


class GpuResources(CpuResources):
    """What the jobs of a rule that uses GPUs ask for."""

    gpu_class: GpuClassName = "any"
    """Class of GPU, as site.yaml describes it."""
    gpus: int = Field(1, ge=1)
    """GPUs."""


class OwnResources(Options):
    """What the jobs of one stage ask for where a scene or run needs other than its rule says."""

    threads: int | None = Field(None, ge=1)
    """CPUs."""
    mem_mb: int | None = Field(None, ge=LEAST_MEM_MB)
    """Memory (MB) of the first attempt; the second asks for twice as much."""
    runtime: int | None = Field(None, ge=1)
    """Time limit (minutes) of the first attempt; the second asks for twice as much."""


class OwnGpuResources(OwnResources):
    """The same of a stage that uses GPUs."""

    gpu_class: GpuClassName | None = None
    """Class of GPU."""
    gpus: int | None = Field(None, ge=1)
    """GPUs."""


@dataclass(frozen=True)
class StageRule:
    """A rule that runs a stage: where its log and its last output lie, and what it asks a node for.

    What it reads, makes and runs is in its rule; log and output are the templates that the rule uses.
    """

    stage: str
    """Column of `status`: `pose`, `train`."""
    module: str
    """Of the stage, without the package: `captures.pose`."""
    log: str
    """Relative to the folder of logs, with the rule's wildcards: `captures/{capture}/pose.log`."""
    output: str = ""
    """What is published last, relative to the results or absolute; empty where the config says it."""
    resources: CpuResources = field(default_factory=CpuResources)
    """Defaults of `resources.<rule>` in the config."""
    share: float = 1.0
    """Part of the partition's longest time that it may take, where a profile makes one job of it and others."""
    throttled: bool = True
    """Whether its jobs count among the area's, which `<area>_jobs` limits."""


@dataclass(frozen=True)
class PlannedStage:
    """One stage of one scene; `status` holds it against what is on disk."""

    area: str
    """Such as `captures`."""
    scene: str
    """Name of the scene, with the variant where there are several: `room`, `dog/filtered`."""
    stage: str
    """Such as `pose` or `train`; the columns of `status`."""
    log: str
    """Its log, relative to the logs folder."""
    output: str
    """What it publishes last."""
    rule: str = ""
    """Rule that runs it."""


@dataclass(frozen=True)
class PlannedRecording:
    """A recording that can be made of a run."""

    file: str
    """`<run>/rerun/<name>.rrd`, or one elsewhere."""
    log: str
    """Of the job that makes it, relative to the folder of logs."""
    rule: str
    """That makes it."""
    stage: str = "record"
    """Column of `status`."""
    row: str = ""
    """Row of `status`; empty is the run's."""


@dataclass(frozen=True)
class Describer:
    """A module of an area that reads what the page of a run says; `hub`, which knows no area, calls it by its name."""

    module: str
    """Without the package; its `describe(run_dir, scene, folder)` returns a `Description`."""
    folder: str
    """Of what it reads beside the run's own."""


MetricsRow = tuple[str, dict[str, float]]
"""Label of a row of a page's table of metrics, such as `epoch 15`, and its values by column."""


@dataclass(frozen=True)
class Description:
    """Facts and metrics that the page of a run says of it, beside its recordings."""

    facts: Mapping[str, str] = field(default_factory=dict)
    """Such as its source camera."""
    metrics: Sequence[MetricsRow] = ()
    """In place of those in `metrics.json`."""


@dataclass(frozen=True)
class PlannedRun:
    """A run that the config asks for, or that is there: what `recordings` and `upload` treat alike in every area."""

    area: str
    scene: str
    """Scene: on the Hub a page of the experiment."""
    variant: str
    """Variant or experiment: `single`, `filtered`, the name of a run of driving."""
    folder: str
    """Of the run."""
    done: str
    """File or folder that is there when the run can be recorded."""
    whole: str = ""
    """File that stands for the run of which it is a part: who asks for that, asks for this."""
    recordings: tuple[PlannedRecording, ...] = ()
    """That can be made of it."""
    rerun: str = ""
    """Folder of its recordings; empty is `<folder>/rerun`."""
    row: str = ""
    """How `status` calls it; empty is `<scene>/<variant>`."""
    trained: bool = True
    """Whether making it renders, which needs compiled kernels."""
    describer: Describer | None = None
    """Module that reads what its page says beside `metrics.json`."""
    made: bool = False
    """Whether it is made on demand, such as a sample, so that it needs not be there to be recorded."""
    sample: str = ""
    """Bundled sample that it is made from, as `Area.sample` tells of it; empty for one's own data."""


@dataclass(frozen=True)
class Context:
    """What a plan is made for."""

    results: str
    """Folder of the results, as Snakemake writes it."""
    logs: str
    """Folder of the logs."""
    here: Path
    """Folder of the Snakefile; files that the config names are looked for in the working directory first."""
    cache: Path
    """Folder for remembered digests."""
    files: bool = True
    """Whether the files that are named are looked at; a job need not do again what its run has done."""
    targets: Callable[[], frozenset[str]] = frozenset
    """Rules and files that are asked for; known only once jobs are planned."""
    plans: Callable[[], Mapping[str, Plan]] = dict
    """The plans of all areas, made as they are looked up."""

    def found(self, path: str) -> Path:
        """A file that the config names: from the working directory, else from the folder of the Snakefile."""
        import os

        here = os.path.exists(path)  # noqa: PTH110 - False, not an error, for a name that no file can have
        return Path(path) if here or Path(path).is_absolute() else self.here / path

    def stage(self, area: str, name: str, rule: StageRule, row: str, **wildcards: str) -> PlannedStage:
        """A stage by the templates of its rule."""
        output = f"{self.results}/{rule.output.format(**wildcards)}"
        return PlannedStage(area, row, rule.stage, rule.log.format(**wildcards), output, name)

    def recording(self, name: str, rule: StageRule, **wildcards: str) -> PlannedRecording:
        """A recording by the templates of its rule."""
        output = f"{self.results}/{rule.output.format(**wildcards)}"
        return PlannedRecording(output, rule.log.format(**wildcards), name, rule.stage)

    def begun(self, stage: PlannedStage) -> bool:
        """Whether a stage was ever started."""
        return Path(self.logs, stage.log).exists() or Path(stage.output).exists()


class Plan:
    """What an area makes of a config; its other methods are what rules take as parameters, one wildcards each."""

    def targets(self) -> dict[str, Callable[[], list[str]]]:
        """Name of each target rule, and the files that it asks for."""
        return {}

    def asked(self) -> list[str]:
        """Files that the target `all` asks for."""
        return []

    def renders(self, files: list[str]) -> bool:
        """Whether making these files renders, which needs compiled kernels."""
        return bool(files)

    def fetched(self) -> list[str]:
        """Receipts of what is fetched ahead of the files that are asked for, as far as it is not there."""
        return []

    def lines(self, target: str) -> Iterable[str]:
        """What the user should know when a target, or `all`, is asked for."""
        return ()

    def stages(self) -> Iterable[PlannedStage]:
        """The stages that the config asks for, those of recordings and uploads left out."""
        return ()

    def runs(self) -> Iterable[PlannedRun]:
        """The runs that the config asks for, and others that are there."""
        return ()

    def notices(self) -> Iterable[tuple[str, str]]:
        """What the user should know about the plan: where, and a line."""
        return ()

    def backends(self) -> Iterable[Backend]:
        """The backends that the config names, each with the rules in whose jobs it works."""
        return ()

    def own_resources(self, rule: str, wildcards: Any) -> OwnResources | None:
        """What the scene or run of a job asks for, where that is other than its rule says."""
        return None

    def has_own_resources(self, rule: str) -> bool:
        """Whether any scene or run asks for other than its rule says."""
        return False


class Area:
    """An area: a folder of the package, a file of rules, and a name in the list."""

    name: ClassVar[str]
    """Its section of the config, and its folder of results."""
    config: ClassVar[type[Options] | None] = None
    """Options of its section; None is no section."""
    samples: ClassVar[Mapping[str, type[SampleOptions]]] = {}
    """Bundled inputs, made by `splatdag.samples.<name>`, and their options."""
    rules: ClassVar[Mapping[str, StageRule]] = {}
    """Its rules that run stages."""
    throttle: ClassVar[int] = 100
    """Jobs of the area that are in Slurm at a time, unless `--resources <area>_jobs=N` says otherwise."""

    @classmethod
    def sample(cls, name: str | None) -> str:
        """Name of a bundled sample and how it is made, as manifests have it; empty for none."""
        return f"{name} ({cls.samples[name].made})" if name else ""

    def plan(self, config: Any, context: Context) -> Plan:
        """Plan what a config asks for.

        Raises:
            UserError: one line on what is wrong.
        """
        return Plan()


class Own(str):
    """A path of the user's, which a job is given but is no input for Snakemake.

    Only a digest, a parameter, says whether it changed, so it may be touched freely. Of an input whose time lies ahead,
    such as a photo from a machine whose clock is fast, Snakemake 9.27 accepts no output.
    """

    __slots__ = ()


def sample_receipt(name: str) -> str:
    """What stands for a bundled sample as an input: the file that is written last, since Snakemake compares files."""
    return f"<results>/samples/{name}/{RECEIPT}"


def sample_digest(config: Any, name: str) -> str:
    """What a bundled sample is made by: its options and code."""
    return shlex.join([name, code_digest(f"samples.{name}"), *flags(getattr(config.samples, name))])


def sample_of(folder: Path | str) -> str:
    """Read which bundled sample a run was made from; empty if none, or if its manifest can't be read."""
    try:
        return str(json.loads(Path(folder, "manifest.json").read_bytes()).get("sample", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def found_like(results: str, path: str) -> Iterator[dict[str, str]]:
    """Wildcards of a template's files that are there.

    Args:
        results: folder of the results.
        path: template of a file, each part of which is a name or one wildcard: `captures/{capture}/splat.ply`.
    """
    parts = path.split("/")
    names = {place: part[1:-1] for place, part in enumerate(parts) if part.startswith("{")}
    pattern = "/".join("*" if place in names else part for place, part in enumerate(parts))
    for found in sorted(Path(results).glob(pattern)):
        relative = found.relative_to(results)
        if not any(relative.parts[place].startswith(".") for place in names):
            yield {name: relative.parts[place] for place, name in names.items()}
