"""Options of sharing: the selection of runs, and their recordings."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BeforeValidator, Field

from splatdag.workflow.options import Options

Task = Literal["nvs", "pose", "trn_nv_generation"]
"""Task of the human trainer to record of an epoch: novel views, poses, or the generation of training views."""
TASKS: tuple[Task, ...] = get_args(Task)
EPOCH = r"all|latest|epoch_\d+|\d+"
"""Regular expression of a choice of epochs."""


def _listed(given: Any) -> Any:
    return [name.strip() for name in given.split(",") if name.strip()] if isinstance(given, str) else given


def _as_text(given: Any) -> Any:
    return str(given) if isinstance(given, int) and not isinstance(given, bool) else given


class RunSelection(Options):
    """Selection of the runs to record and publish, and folders of the human trainer's results."""

    results_root: str = "results/humans"
    """Folder of `<scene>/<experiment>/`, as the human trainer leaves them; `sample:humans` is the bundled one. Without
    a folder at the default nothing is missing."""
    output_dir: str | None = None
    """Folder for the recordings of people, `<scene>/<experiment>/rerun/`, where `results_root` may only be read; not
    set: each run's own `rerun/`."""
    scenes_dir: str | None = None
    """Folder of `<scene>.json`, whose `cam_id` is the source camera; not set: `preprocess/scenes`, or the sample's.
    A scene without a file there has the `source_camera_id` of its manifest."""
    exp_name: str | None = None
    """Only the runs of this experiment, of every area (of captures it is the variant, `single`); not set: of all."""
    scene_name_includes: str = ""
    """Only scenes with this text in their names, of every area (of captures it is the capture)."""
    tasks: Annotated[list[Task], BeforeValidator(_listed)] = Field(list(TASKS), min_length=1)
    """Tasks of the human trainer to record, a list or separated by commas: `nvs`, `pose`, `trn_nv_generation`."""
    epoch: Annotated[str, BeforeValidator(_as_text)] = Field("all", pattern=f"^({EPOCH})$")
    """`all`, `latest`, or one, `epoch_0010` or `10`. Training views count their own epochs: beside other tasks, one
    that they do not have is left out."""

    def takes(self, exp: str, scene: str) -> bool:
        """Tell whether the run of that experiment and scene is selected."""
        return self.exp_name in (None, exp) and self.scene_name_includes in scene


class RecordingOptions(Options):
    """Options of recordings: frames, pictures and size of the file."""

    section: ClassVar[str] = "sharing.recordings"

    frame_stride: int = Field(1, ge=1)
    """Every n-th frame is recorded; a capture's run has no frames."""
    downscale: int = Field(1, ge=1)
    """Pictures are scaled down by this factor; with 1, JPEG files that stand alone are recorded as they are."""
    jpeg_quality: int = Field(85, ge=1, le=100)
    """JPEG quality of pictures that are put together, scaled down or stored as PNG."""
    max_size_mb: float = Field(200, gt=0)
    """A recording that is larger (MB) is not published: viewers in a browser run out of memory."""


class CaptureRecordingOptions(RecordingOptions):
    """Options of recordings, and of the Gaussians in those of captures."""

    gaussians: bool = True
    """Record Gaussians as such; without, as points of their colours, which any viewer draws quickly."""
    sh_degree: int = Field(3, ge=0, le=3)
    """Spherical harmonics that Gaussians keep at most; each but 0 adds 90 bytes per Gaussian to 44."""
