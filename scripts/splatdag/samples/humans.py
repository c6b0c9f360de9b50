"""Makes the sample run of the human trainer: a results tree of two people in its folder layout, without its files of
weights. What stands for the trainer is a fixed error that shrinks from one evaluation to the next."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from splatdag.samples.bodies import SKELETON, Person, Pose, draw, joints_of, mesh_of, triangles
from splatdag.samples.humans_options import HUMANS_EPOCHS, HUMANS_RUN, HumansOptions
from splatdag.samples.photography import look_at
from splatdag.workflow.publish import complete_folder, write_json
from splatdag.workflow.stage import Job, run

logger = logging.getLogger(__name__)

SCENE, EXP = HUMANS_RUN
EPOCHS = dict(zip(HUMANS_EPOCHS["nvs"], (1.0, 0.3), strict=True))
"""Evaluated epochs, and the part of the error that is left at each."""
GENERATED = HUMANS_EPOCHS["trn_nv_generation"][0]
"""Epoch at which training views were generated."""
SOURCE, CAMERAS, VIRTUAL = 28, {4: -60.0, 28: 0.0, 52: 60.0}, {100: 120.0, 101: 240.0}
"""The camera trained from; all cameras and the virtual ones, with their places on the circle (degrees)."""
RADIUS, AIM = 3.3, np.array([0.0, 0.95, 0.0])  # metres
JPEG_QUALITY = 92
SHAPES = (
    Person(1.0, 1.0, np.array([[0.55, 0.68, 0.85], [0.8, 0.45, 0.25], [0.45, 0.3, 0.2]])),
    Person(0.93, 1.1, np.array([[0.42, 0.55, 0.72], [0.2, 0.45, 0.85], [0.25, 0.35, 0.2]])),
)


@dataclass(frozen=True)
class Clip:
    """Video of two people: their true and predicted poses in every frame."""

    options: HumansOptions

    @property
    def names(self) -> list[str]:
        """Names of the frames."""
        return [f"{frame:06d}" for frame in range(1, self.options.frames + 1)]

    def poses(self, frame: int) -> list[Pose]:
        """Return the poses of two people who face each other and wave."""
        phase = 2 * np.pi * frame / self.options.frames
        return [self._pose(sign, phase) for sign in (1.0, -1.0)]

    def _pose(self, sign: float, phase: float) -> Pose:
        wave, step = np.sin(phase), 0.25 * np.sin(phase + sign)
        turns = {
            "right_arm": np.array([0.0, 0.0, -2.3]),
            "right_hand": np.array([0.0, 0.0, 0.5 * wave]),
            "left_arm": np.array([step, 0.0, 0.1]),
            "left_hand": np.array([-0.4, 0.0, 0.0]),
            "left_thigh": np.array([step, 0.0, 0.0]),
            "right_thigh": np.array([-step, 0.0, 0.0]),
            "left_shin": np.array([0.3 * abs(step), 0.0, 0.0]),
        }
        place = np.array([-sign * (0.5 - 0.05 * wave), 0.97, 0.05 * sign * wave])
        return Pose(place, sign * np.pi / 2, turns)

    def predicted(self, frame: int, error: float) -> list[Pose]:
        """Return the poses with an error that all frames share, and a smaller one of each frame."""
        found = []
        for number, pose in enumerate(self.poses(frame)):
            of_clip = np.random.default_rng([self.options.seed, number])
            of_frame = np.random.default_rng([self.options.seed, number, frame])
            wrong = of_clip.normal(0, 0.25, (len(SKELETON), 3)) + of_frame.normal(0, 0.03, (len(SKELETON), 3))
            turns = {
                name: pose.turns.get(name, np.zeros(3)) + error * turn
                for name, turn in zip(SKELETON, wrong, strict=True)
            }
            off = of_clip.normal(0, 0.04, 3)
            found.append(replace(pose, pelvis=pose.pelvis + error * off, turns=turns))
        return found

    def K(self) -> np.ndarray:  # noqa: N802 - the field's letter
        """Intrinsics of all cameras."""
        width, height = self.options.width, self.options.height
        return np.array([[1.4 * height, 0, width / 2], [0, 1.4 * height, height / 2], [0, 0, 1]])

    def meshes(self, poses: list[Pose]) -> list[np.ndarray]:
        """Vertices of both people."""
        return [mesh_of(person, pose) for person, pose in zip(SHAPES, poses, strict=True)]

    def image(self, poses: list[Pose], degrees: float, backdrop: bool = False) -> np.ndarray:
        """Draw the people as a camera sees them, on black or a backdrop; [H, W, 3] uint8: blue, green, red."""
        canvas = np.zeros((self.options.height, self.options.width, 3), np.uint8)
        if backdrop:
            canvas[:] = np.linspace(200, 120, len(canvas)).astype(np.uint8)[:, None, None]
        draw(canvas, self.meshes(poses), list(SHAPES), self.K(), world_to_camera(degrees))
        return canvas


def world_to_camera(degrees: float) -> np.ndarray:
    """Pose [3, 4] of a camera on the circle, OpenCV axes."""
    angle = np.radians(degrees)
    eye = AIM + RADIUS * np.array([np.sin(angle), 0.1, np.cos(angle)])
    return look_at(eye, AIM, (0.0, 1.0, 0.0))[:3]


def make_humans(out: Path, options: HumansOptions) -> None:
    """Write `scenes/<scene>.json` and `results/<scene>/<exp>/` below a folder; the same options give the same bytes."""
    clip = Clip(options)
    write_json(out / "scenes" / f"{SCENE}.json", {"seq_name": SCENE, "cam_id": SOURCE, "ref_frame_idx": 0})
    folder = out / "results" / SCENE / EXP
    manifest = {
        "output_layout_version": "v1",
        "exp_name": EXP,
        "scene_name": SCENE,
        "tasks": ["nvs", "pose_smplx"],
        "eval_epochs": list(EPOCHS),
        "source_camera_id": SOURCE,
        "nvs_cameras": list(CAMERAS),
        "pose_eval_world_alignment_method": "pelvis_trajectory",
    }
    write_json(folder / "manifest.json", manifest)
    for epoch, error in EPOCHS.items():
        logger.info("%s", epoch)
        _write_nvs(folder / "evaluation" / epoch / "nvs", clip, error)
        _write_pose(folder / "evaluation" / epoch / "pose_smplx", clip, error)
    _write_training_views(folder / "input_data" / "train", clip)


def _write_nvs(folder: Path, clip: Clip, error: float) -> None:
    rows = []
    for camera, degrees in CAMERAS.items():
        for frame, name in enumerate(clip.names):
            blur = cv2.GaussianBlur(clip.image(clip.predicted(frame, error), degrees), (0, 0), 0.4 + error)
            truth = clip.image(clip.poses(frame), degrees)
            for side, image in (("pred", blur), ("gt_inputs", truth)):
                _write_image(folder / side / f"cam_{camera}" / "metrics_input" / f"{name}.jpg", image)
            rows.append({"camera_id": camera, "frame_id": name, "psnr": f"{_psnr(blur, truth):.4f}"})
    _write_table(folder / "metrics" / "metrics_all_cams_per_frame.csv", rows)


def _psnr(image: np.ndarray, truth: np.ndarray) -> float:
    error = np.square(image.astype(np.float64) - truth).mean()
    return float(-10 * np.log10(max(error, 1e-6) / 255**2))


def _write_pose(folder: Path, clip: Clip, error: float) -> None:
    rows = []
    for frame, name in enumerate(clip.names):
        predicted, truth = clip.predicted(frame, error), clip.poses(frame)
        for side, poses in (("pred", predicted), ("gt_inputs", truth)):
            meshes = clip.meshes(poses)
            rooted = [mesh - pose.pelvis for mesh, pose in zip(meshes, poses, strict=True)]
            for aligned, of_people in (("world_aligned", meshes), ("root_aligned", rooted)):
                _write_people(folder / side / aligned / "posed_smplx_meshes_per_frame", name, of_people)
        rows.append({"frame_id": name, **_pose_errors(predicted, truth)})
        _write_camera(folder / "viz" / "all_cameras" / str(SOURCE) / f"{name}.npz", clip, CAMERAS[SOURCE])
        seen = clip.image(truth, CAMERAS[SOURCE], backdrop=True)
        _write_image(folder / "viz" / "images" / str(SOURCE) / f"{name}.jpg", seen)
    _write_table(folder / "metrics" / "smplx_pose_estimation_metrics_per_frame.csv", rows)
    means = {key: np.mean([float(row[key]) for row in rows]) for key in rows[0] if key != "frame_id"}
    overall = "".join(f"{key}: {mean:.3f}\n" for key, mean in means.items())
    (folder / "metrics" / "smplx_pose_estimation_overall_results.txt").write_text(overall)


def _pose_errors(predicted: list[Pose], truth: list[Pose]) -> dict[str, str]:
    """Mean distance of joints and of vertices, pelvis on pelvis, in millimetres."""
    errors = {}
    for key, points_of in (("rr_mpjpe_mm", joints_of), ("rr_mve_mm", mesh_of)):
        sides = [
            np.array([points_of(person, pose) - pose.pelvis for person, pose in zip(SHAPES, poses, strict=True)])
            for poses in (predicted, truth)
        ]
        errors[key] = f"{1000 * np.linalg.norm(sides[0] - sides[1], axis=-1).mean():.3f}"
    return errors


def _write_training_views(folder: Path, clip: Clip) -> None:
    generation = folder / "misc" / "nv_generation"
    for frame, name in enumerate(clip.names):
        poses = clip.predicted(frame, EPOCHS[HUMANS_EPOCHS["nvs"][-1]])
        meshes = clip.meshes(poses)
        _write_people(generation / "pose_state" / GENERATED / "posed_smplx_meshes_per_frame", name, meshes)
        source = clip.image(clip.poses(frame), CAMERAS[SOURCE])
        _write_image(folder / "images" / str(SOURCE) / f"{name}.jpg", source)
        _write_camera(folder / "all_cameras" / str(SOURCE) / f"{name}.npz", clip, CAMERAS[SOURCE])
        reference = source
        for camera, degrees in VIRTUAL.items():
            refined = clip.image(poses, degrees)
            noise = np.random.default_rng([clip.options.seed, camera, frame]).normal(0, 25, refined.shape)
            rendered = np.clip(cv2.GaussianBlur(refined, (0, 0), 1.5) + noise, 0, 255).astype(np.uint8)
            triplet = np.hstack([reference, rendered, refined])
            _write_image(generation / "est_images_debug" / str(camera) / f"{name}.png", triplet)
            _write_image(folder / "images" / str(camera) / f"{name}.jpg", refined)
            _write_camera(folder / "all_cameras" / str(camera) / f"{name}.npz", clip, degrees)
            reference = refined


def _write_people(folder: Path, name: str, meshes: list[np.ndarray]) -> None:
    """Write one OBJ file for all people and one for each."""
    (folder / "0").mkdir(parents=True, exist_ok=True)
    faces = triangles() + 1
    for number, mesh in enumerate(meshes):
        (folder / str(number)).mkdir(exist_ok=True)
        (folder / str(number) / f"{name}.obj").write_text("".join(_obj([mesh], faces)))
    (folder / f"{name}.obj").write_text("".join(_obj(meshes, faces)))


def _obj(meshes: list[np.ndarray], faces: np.ndarray) -> Iterator[str]:
    for mesh in meshes:
        yield "".join(f"v {x:.5f} {y:.5f} {z:.5f}\n" for x, y, z in mesh.tolist())
    for number, mesh in enumerate(meshes):
        yield "".join(f"f {a} {b} {c}\n" for a, b, c in (faces + number * len(mesh)).tolist())


def _write_camera(path: Path, clip: Clip, degrees: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, intrinsics=clip.K()[None], extrinsics=world_to_camera(degrees)[None])


def _write_image(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    settings = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if path.suffix == ".jpg" else []
    path.write_bytes(cv2.imencode(path.suffix, image, settings)[1].tobytes())


def _write_table(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)


def main(out: Path, options: HumansOptions, job: Job) -> None:
    """Make the sample run of the human trainer.

    Args:
        out: folder to fill with scenes/, results/ and, last, sample.json.
        options: how many frames, and how large.
        job: how to run.
    """
    cv2.setNumThreads(job.threads)
    with complete_folder(out) as folder:
        make_humans(folder, options)
        write_json(folder / "sample.json", {"settings": options.model_dump()})


if __name__ == "__main__":
    run(main)
