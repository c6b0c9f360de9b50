"""The manifest of a run: stages, machine, times and end. It is written last; without it a run is not finished."""

from __future__ import annotations

import importlib.metadata
import platform
import resource
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from splatdag.workflow.attempts import Attempt, this_attempt
from splatdag.workflow.code_digest import code_digest
from splatdag.workflow.command_line import this_command
from splatdag.workflow.options import Options
from splatdag.workflow.publish import write_json
from splatdag.workflow.weights import Weights

_PACKAGES = ("splatdag", "torch", "numpy", "numba", "gsplat", "pycolmap", "opencv-python-headless")


class RunId(BaseModel):
    """Identity of a run: area, scene and variant; as text `AREA/SCENE/VARIANT`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    area: str = Field(min_length=1)
    """Name of the area, such as `captures`."""
    scene: str
    """Name of the scene, such as `room`; empty where the run has no scene of its own."""
    variant: str
    """Name of the run of the scene, such as `single` or `single/eval_on_night`; empty where it has only one."""

    def __str__(self) -> str:
        return "/".join((self.area, self.scene, self.variant))

    @classmethod
    def parse(cls, text: str) -> RunId:
        """Read `AREA/SCENE/VARIANT`, of which only the variant may hold slashes.

        Raises:
            ValueError: the text is not of that form.
        """
        area, *rest = text.split("/", 2)
        if not area or len(rest) != 2:
            raise ValueError(f"{text}: expected AREA/SCENE/VARIANT, such as captures/room/single")
        return cls(area=area, scene=rest[0], variant=rest[1])

    @classmethod
    def of(cls, text: str, stage: str, folder: Path) -> RunId:
        """Read `AREA/SCENE/VARIANT`; if it is empty (a run by hand), take the stage's area and the folder's name."""
        if text:
            return cls.parse(text)
        return cls(area=stage.partition(".")[0], scene=folder.resolve().name, variant="")


class Part(BaseModel):
    """Process that made a part of a run, and the command that makes it again."""

    model_config = ConfigDict(extra="forbid")

    name: str
    """Name, such as `train` or `001/evaluate`: the path of its log relative to the run's, without `.log`."""
    stage: str
    """Module that ran."""
    directory: str
    """Folder in which it ran; paths in its command may be relative to it."""
    command: list[str]
    """Flags of the module that give the same again; none where it did not run as a stage."""
    code: str
    """Digest of the stage's code."""
    inputs: dict[str, str]
    """Name of each input and the digest of its content."""


class Manifest(BaseModel):
    """Manifest of a run: its last file, which `compare` reads."""

    model_config = ConfigDict(extra="forbid")

    stage: str
    """Module that ran, such as `scene.train`."""
    run: RunId
    """Identity of the run."""
    folder: str
    """Folder in which it was made, as an absolute path."""
    sample: str = ""
    """Bundled sample that it was made from, by name and how that is made; empty for the user's own data."""
    options: dict[str, Any]
    """All options, defaults included."""
    inputs: dict[str, str]
    """Name of each input and the digest of its content."""
    code: str
    """Digest of the stage's code."""
    packages: dict[str, str]
    """Versions of Python and of the packages that the result depends on."""
    device: str
    """Device that it was computed on."""
    seconds: dict[str, float]
    """Wall time of startup, train, eval and publish, added up over all parts, and their total."""
    peak_memory_mb: dict[str, float]
    """Largest resident memory (`host`) and largest device allocation (`cuda`) of any part."""
    weights: list[Weights] = []
    """Pretrained weights that the result was made with, and those that only its metrics come from."""
    images: str = ""
    """Number and size of the photos, and the place where they were kept meanwhile."""
    gaussians: int | None = None
    """Gaussians in splat.ply, where the run has one."""
    steps: int | None = None
    """Optimisation steps done, where something was trained."""
    offset: list[float] | None = None
    """Offset from splat.ply's positions to those in the input's world frame (zero but for georeferenced inputs)."""
    exit_reason: str
    """End of the training: `finished`; or `cuda_oom`, in a manifest that lies in `state/`."""
    finished: str
    """Time of the end, in UTC."""
    usage: list[Attempt] = []
    """Attempts at each part since it last finished, with the resources used; failed and killed ones are among them."""
    parts: list[Part] = []
    """The processes that made the run, in order."""


def write_manifest(path: Path, stage: str, run: RunId, seconds: dict[str, float], **fields: Any) -> None:
    """Write the manifest of a run that one process made; the arguments are those of `manifest_of`."""
    write_json(path, manifest_of(stage, run, path.parent, seconds, **fields).model_dump(mode="json"))


def manifest_of(
    stage: str,
    run: RunId,
    folder: Path,
    seconds: dict[str, float],
    *,
    inputs: dict[str, str],
    part: str = "",
    chosen: Options | None = None,
    device_memory_mb: dict[str, float] | None = None,
    exit_reason: str = "finished",
    **fields: Any,
) -> Manifest:
    """Return the manifest of the part of a run that this process made.

    Args:
        stage: module that ran.
        run: identity of the run.
        folder: of the run.
        seconds: wall times; their total is added.
        inputs: digests.
        part: name of this part of the run; the last word of `stage` if empty.
        chosen: options in place of those that the command line gave, where the stage decided some.
        device_memory_mb: largest allocations.
        exit_reason: how it ended.
        fields: of `Manifest`.
    """
    code, name, attempt = code_digest(stage), part or stage.rpartition(".")[2], this_attempt()
    return Manifest(
        stage=stage,
        run=run,
        folder=_as_text(folder.absolute()),
        inputs=inputs,
        code=code,
        seconds=_with_total(seconds),
        packages=package_versions(),
        peak_memory_mb={"host": round(peak_resident_mb(), 1), **(device_memory_mb or {})},
        finished=now(),
        exit_reason=exit_reason,
        usage=attempt.all(exit_reason) if attempt else [],
        parts=[
            Part(
                **{"name": name, "stage": stage, "code": code, "inputs": inputs},
                directory=_as_text(Path.cwd()),
                command=[_as_text(word) for word in this_command(chosen)],
            )
        ],
        **fields,
    )


def sample_line(sample: str) -> str:
    """Return the line that marks pages and recordings of a bundled sample as such."""
    return f"Bundled sample, not real data: {sample}."


def _as_text(path: Path | str) -> str:
    """Return a path as text that any file may hold: bytes that are no text become question marks."""
    return str(path).encode(errors="replace").decode()


def merged(manifests: Sequence[Manifest], **fields: Any) -> Manifest:
    """Merge the manifests of the processes that made a run: the first says what ran, the others add what they used.

    Args:
        manifests: of each process.
        fields: of the whole, in place of the first's.
    """
    seconds = [{name: value for name, value in one.seconds.items() if name != "total"} for one in manifests]
    memory = [one.peak_memory_mb for one in manifests]
    whole = {
        "seconds": _with_total({name: sum(one.get(name, 0.0) for one in seconds) for one in seconds for name in one}),
        "peak_memory_mb": {name: max(one.get(name, 0.0) for one in memory) for one in memory for name in one},
        "usage": [usage for one in manifests for usage in one.usage],
        "parts": [part for one in manifests for part in one.parts],
        "finished": now(),
    }
    return manifests[0].model_copy(update=whole | fields)


def _with_total(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in {**seconds, "total": sum(seconds.values())}.items()}


def now() -> str:
    """Return the present date and time in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def package_versions(names: tuple[str, ...] = _PACKAGES) -> dict[str, str]:
    """Return the versions of Python and of the packages that a result depends on."""
    installed = {name: _version(name) for name in names}
    return {"python": platform.python_version(), **{name: v for name, v in installed.items() if v}}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def peak_resident_mb() -> float:
    """Return the largest resident memory of this process so far, in MB (10⁶ bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def processor_name() -> str:
    """Return the processor's name as the kernel gives it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
