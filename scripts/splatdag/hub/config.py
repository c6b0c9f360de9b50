"""The config's section `sharing`: which runs are recorded, how, and where they are published."""

from __future__ import annotations

from splatdag.hub.options import UploadOptions
from splatdag.hub.rrd_files import resolved
from splatdag.recording.options import CaptureRecordingOptions, RunSelection


class SharingConfig(RunSelection):
    """Recordings of finished runs, and where they are published."""

    export: bool = True
    """The target `upload` makes recordings that are missing first; without, it publishes those that are there."""
    recordings: CaptureRecordingOptions = CaptureRecordingOptions()
    """Recordings for the Rerun viewer."""
    upload: UploadOptions = UploadOptions()
    """Publication."""

    def resolved_upload(self) -> UploadOptions:
        """Return the options of the upload, `auto` replaced by the selection that it stands for."""
        selection, rrd_glob = resolved(self.upload.selection, self.upload.rrd_glob, self.tasks, self.epoch)
        return self.upload.model_copy(update={"selection": selection, "rrd_glob": rrd_glob})
