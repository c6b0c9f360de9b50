"""Areas of the workflow: what each declares, and what it plans from a config.

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
    """Resources of a rule's jobs; the second attempt asks for twice the memory and time, and so on."""

    threads: int = Field(2, ge=1)
    """CPUs."""
    mem_mb: int = Field(2_000, ge=LEAST_MEM_MB)
    """Memory (MB)."""
    runtime: int = Field(30, ge=1)
    """Time limit (minutes)."""


class GpuResources(CpuResources):
    """Resources of the jobs of a rule that uses GPUs."""

    gpu_class: GpuClassName = "any"
    """Class of GPU, as site.yaml describes it."""
    gpus: int = Field(1, ge=1)
    """GPUs."""


class OwnResources(Options):
    """Resources of one stage of one scene or run, in place of its rule's; those that are unset stay the rule's."""

    threads: int | None = Field(None, ge=1)
    """CPUs."""
    mem_mb: int | None = Field(None, ge=LEAST_MEM_MB)
    """Memory (MB) of the first attempt; the second asks for twice as much."""
    runtime: int | None = Field(None, ge=1)
    """Time limit (minutes) of the first attempt; the second asks for twice as much."""


class OwnGpuResources(OwnResources):
    """Resources of one stage of one scene or run, where the stage uses GPUs."""

    gpu_class: GpuClassName | None = None
    """Class of GPU."""
    gpus: int | None = Field(None, ge=1)
    """GPUs."""


@dataclass(frozen=True)
class StageRule:
    """Rule that runs a stage: the paths of its log and its last output, and the resources of its jobs.

    Its inputs, other outputs and command are in the rules file, which takes log and output from these templates.
    """

    stage: str
    """Column of `status`, such as `pose` or `train`."""
    module: str
    """Module of the stage, without the package: `captures.pose`."""
    log: str
    """Log, relative to the folder of logs, with the rule's wildcards: `captures/{capture}/pose.log`."""
    output: str = ""
    """Output that is published last, relative to the results or absolute; empty where the config names it."""
    resources: CpuResources = field(default_factory=CpuResources)
    """Defaults of `resources.<rule>` in the config."""
    share: float = 1.0
    """Largest share of the partition's time limit that it asks for; below 1 if a profile puts several into one job."""
    throttled: bool = True
    """True if its jobs count towards `<area>_jobs`, the limit on the area's jobs in Slurm at a time."""


@dataclass(frozen=True)
class PlannedStage:
    """Stage of one scene that is to be run; `status` compares it with the files on disk."""

    area: str
    """Name of the area, such as `captures`."""
    scene: str
    """Name of the scene, with the variant where there are several: `room`, `dog/filtered`."""
    stage: str
    """Name of the stage, such as `pose` or `train`: a column of `status`."""
    log: str
    """Log, relative to the folder of logs."""
    output: str
    """Output that it publishes last."""
    rule: str = ""
    """Rule that runs it."""


@dataclass(frozen=True)
class PlannedRecording:
    """A recording that can be made of a run."""

    file: str
    """Path of the recording: `<run>/rerun/<name>.rrd`, or one elsewhere."""
    log: str
    """Log of the job that makes it, relative to the folder of logs."""
    rule: str
    """Rule that makes it."""
    stage: str = "record"
    """Column of `status`."""
    row: str = ""
    """Row of `status`; if empty, that of its run."""


@dataclass(frozen=True)
class Describer:
    """Module of an area that describes a run for its page; `hub`, which imports no area, loads it by its name."""

    module: str
    """Name without the package; the module's `describe(run_dir, scene, folder)` returns a `Description`."""
    folder: str
    """Folder that it reads beside the run's own."""


MetricsRow = tuple[str, dict[str, float]]
"""Label of a row of a page's table of metrics, such as `epoch 15`, and its values by column."""


@dataclass(frozen=True)
class Description:
    """Facts and metrics that the page of a run shows beside its recordings."""

    facts: Mapping[str, str] = field(default_factory=dict)
    """Facts by name, such as the run's source camera."""
    metrics: Sequence[MetricsRow] = ()
    """Rows of the table of metrics, in place of those in `metrics.json`."""


@dataclass(frozen=True)
class PlannedRun:
    """Run that the config asks for or that exists, in the form that `recordings` and `upload` take from all areas."""

    area: str
    scene: str
    """Scene; on the Hub it is a page of the experiment."""
    variant: str
    """Variant or experiment: `single`, `filtered`, the name of a run of driving."""
    folder: str
    """Folder of the run."""
    done: str
    """File or folder that exists as soon as the run can be recorded."""
    whole: str = ""
    """File of the larger run of which this is a part; a request for that file includes this part."""
    recordings: tuple[PlannedRecording, ...] = ()
    """Recordings that can be made of it."""
    rerun: str = ""
    """Folder of its recordings; if empty, `<folder>/rerun`."""
    row: str = ""
    """Name of its row in `status`; if empty, `<scene>/<variant>`."""
    trained: bool = True
    """Whether making it renders, which needs compiled kernels."""
    describer: Describer | None = None
    """Module that reads the facts and metrics of its page from other files than `metrics.json`."""
    made: bool = False
    """True if it is made on demand, as a sample is, so that it can be recorded though it does not exist yet."""
    sample: str = ""
    """Bundled sample that it is made from, in the words of `Area.sample`; empty for the user's own data."""


@dataclass(frozen=True)
class Context:
    """Folders, requested targets and other plans that a plan is made with."""

    results: str
    """Folder of the results, as Snakemake writes it."""
    logs: str
    """Folder of the logs."""
    here: Path
    """Folder of the Snakefile; files that the config names are looked for in the working directory first."""
    cache: Path
    """Folder for remembered digests."""
    files: bool = True
    """True to check the files that the config names; a job skips the checks that its run has done."""
    targets: Callable[[], frozenset[str]] = frozenset
    """Function that returns the rules and files that the run is asked for, known only once jobs are planned."""
    plans: Callable[[], Mapping[str, Plan]] = dict
    """Function that returns the plans of all areas; each is made when it is first looked up."""

    def found(self, path: str) -> Path:
        """Return a file that the config names: from the working directory, else from the folder of the Snakefile."""
        import os

        here = os.path.exists(path)  # noqa: PTH110 - False, not an error, for a name that no file can have
        return Path(path) if here or Path(path).is_absolute() else self.here / path

    def stage(self, area: str, name: str, rule: StageRule, row: str, **wildcards: str) -> PlannedStage:
        """Return the planned stage of a rule, with wildcards filled into the rule's templates."""
        output = f"{self.results}/{rule.output.format(**wildcards)}"
        return PlannedStage(area, row, rule.stage, rule.log.format(**wildcards), output, name)

    def recording(self, name: str, rule: StageRule, **wildcards: str) -> PlannedRecording:
        """Return the planned recording of a rule, with wildcards filled into the rule's templates."""
        output = f"{self.results}/{rule.output.format(**wildcards)}"
        return PlannedRecording(output, rule.log.format(**wildcards), name, rule.stage)

    def begun(self, stage: PlannedStage) -> bool:
        """Tell whether a stage was ever started: its log or its output exists."""
        return Path(self.logs, stage.log).exists() or Path(stage.output).exists()


class Plan:
    """Plan of an area for one config; its further methods give parameters of rules and take a job's wildcards."""

    def targets(self) -> dict[str, Callable[[], list[str]]]:
        """Return, by name of each target rule, a function that lists the files it asks for."""
        return {}

    def asked(self) -> list[str]:
        """List the files that the target `all` asks for."""
        return []

    def renders(self, files: list[str]) -> bool:
        """Tell whether making these files renders, which needs compiled kernels."""
        return bool(files)

    def fetched(self) -> list[str]:
        """List the receipts of downloads that must precede the requested files and have not been made yet."""
        return []

    def lines(self, target: str) -> Iterable[str]:
        """Return lines for the user that are shown when a target, or `all`, is asked for."""
        return ()

    def stages(self) -> Iterable[PlannedStage]:
        """Return the stages that the config asks for, except those of recordings and uploads."""
        return ()

    def runs(self) -> Iterable[PlannedRun]:
        """Return the runs that the config asks for, and others that exist."""
        return ()

    def notices(self) -> Iterable[tuple[str, str]]:
        """Return notices on the plan for the user: for each the place that causes it, and a line."""
        return ()

    def backends(self) -> Iterable[Backend]:
        """Return the backends that the config names, each with the rules in whose jobs it works."""
        return ()

    def own_resources(self, rule: str, wildcards: Any) -> OwnResources | None:
        """Return the resources that the scene or run of a job asks for in place of its rule's; None if it sets none."""
        return None

    def has_own_resources(self, rule: str) -> bool:
        """Tell whether any scene or run asks for resources in place of its rule's."""
        return False


class Area:
    """An area: a folder of the package, a file of rules, and a name in the list."""

    name: ClassVar[str]
    """Name of the area, of its section in the config and of its folder of results."""
    config: ClassVar[type[Options] | None] = None
    """Class of the options in its section; None if it has no section."""
    samples: ClassVar[Mapping[str, type[SampleOptions]]] = {}
    """Bundled inputs, made by `splatdag.samples.<name>`, and their options."""
    rules: ClassVar[Mapping[str, StageRule]] = {}
    """Rules of the area that run stages, by name."""
    throttle: ClassVar[int] = 100
    """Largest number of the area's jobs in Slurm at a time, unless `--resources <area>_jobs=N` says otherwise."""

    @classmethod
    def sample(cls, name: str | None) -> str:
        """Return the name of a bundled sample and how it is made, as manifests have it; empty for None."""
        return f"{name} ({cls.samples[name].made})" if name else ""

    def plan(self, config: Any, context: Context) -> Plan:
        """Plan what a config asks for.

        Raises:
            UserError: one line on what is wrong.
        """
        return Plan()


class Own(str):
    """Path of a user's file that a job reads, but that Snakemake does not treat as an input.

    Only its digest, a parameter of the rule, decides whether it has changed; its modification time does not count.
    From an input whose time lies in the future, such as a photo from a machine whose clock is fast, Snakemake 9.27
    accepts no output.
    """

    __slots__ = ()


def sample_receipt(name: str) -> str:
    """Return the file that stands for a bundled sample as an input of a rule: the one that is written last."""
    return f"<results>/samples/{name}/{RECEIPT}"


def sample_digest(config: Any, name: str) -> str:
    """Return the name, code digest and flags of a bundled sample; a change of them means to make it again."""
    return shlex.join([name, code_digest(f"samples.{name}"), *flags(getattr(config.samples, name))])


def sample_of(folder: Path | str) -> str:
    """Read which bundled sample a run was made from; empty if none, or if its manifest can't be read."""
    try:
        return str(json.loads(Path(folder, "manifest.json").read_bytes()).get("sample", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def found_like(results: str, path: str) -> Iterator[dict[str, str]]:
    """Yield the wildcards of each existing file that fits a template.

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
