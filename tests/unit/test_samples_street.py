"""The sample logs: PandaSet's layout and timing, read by the reader of real logs, and a truth that holds."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from PIL import Image
from support.streets import NAMES, OPTIONS

from splatdag.driving.clips.clips import read_index
from splatdag.driving.clips.index import main as write_clip_index
from splatdag.driving.logs.pandaset import PANDAR64, PANDARGT, Log, sequences
from splatdag.driving.logs.pickles import read_table
from splatdag.driving.options import IndexOptions
from splatdag.samples import street_sensors
from splatdag.samples.options import CAMERAS, StreetOptions
from splatdag.samples.solids import distance_to
from splatdag.samples.street import make_street, world_of
from splatdag.samples.street_render import measure
from splatdag.samples.street_scene import CLASSES, Materials, World
from splatdag.samples.street_truth import Truth
from splatdag.workflow.errors import UserError
from splatdag.workflow.stage import Job

FRAMES = range(OPTIONS.frames)
SMALL = StreetOptions(logs=2, frames=2, width=48, points=200)


@pytest.fixture(scope="module")
def worlds() -> dict[str, World]:
    materials = Materials(np.random.default_rng([OPTIONS.seed, 0]))
    return {name: world_of(OPTIONS, number, materials) for number, name in enumerate(NAMES)}


def projected(log: Log, camera: str, frame: int, points: np.ndarray, margin: float = 0.0) -> tuple[np.ndarray, ...]:
    """Pixels [N, 2] and which of them lie in the image."""
    view = log.cameras[camera]
    world_to_camera = np.linalg.inv(view.camera_to_world[frame])
    local = points @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]
    pixels = (local @ view.K.T)[:, :2] / local[:, 2:]
    size = np.array(OPTIONS.size)
    return pixels, (local[:, 2] > 0.1) & ((pixels >= margin) & (pixels < size - margin)).all(axis=1)


def looked_at(world: World, log: Log, camera: str, frame: int, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where rays through pixels [N, 2] of an image end [N, 3], and the thing that each hits [N]."""
    view = log.cameras[camera]
    rays = np.concatenate([pixels, np.ones((len(pixels), 1))], axis=1) @ np.linalg.inv(view.K).T
    rays = rays @ view.camera_to_world[frame, :3, :3].T
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    time = view.times[frame] - log.lidar_times[0]
    ranges, hits = np.empty(len(rays)), np.empty((len(rays), 2), np.int64)
    origins = np.broadcast_to(view.camera_to_world[frame, :3, 3], rays.shape).copy()
    measure(world.street, world.poses(np.full(len(rays), time)), origins, rays, ranges, hits, np.empty((len(rays), 2)))
    return origins + ranges[:, None] * rays, world.owners[hits[:, 0]]


def test_threads_change_no_byte_and_the_seed_does(tmp_path: Path) -> None:
    for name, threads, seed in (("one", 1, 0), ("three", 3, 0), ("other", 2, 1)):
        make_street(tmp_path / name, SMALL.model_copy(update={"logs": 1, "seed": seed}), threads)
    one, three, other = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in ("one", "three", "other")
    )
    assert one == three
    assert one[Path("001/lidar/00.pkl.gz")] != other[Path("001/lidar/00.pkl.gz")]
    assert one[Path("001/camera/front_camera/00.jpg")] != other[Path("001/camera/front_camera/00.jpg")]


def test_the_reader_of_real_logs_finds_everything_in_its_place(street_root: Path) -> None:
    logs = [Log(folder) for folder in sequences(street_root)]
    assert [(log.name, log.problems, tuple(log.cameras)) for log in logs] == [(name, [], CAMERAS) for name in NAMES]
    assert all(log.reason_against(frame) is None for log in logs for frame in FRAMES)
    assert [log.has_semseg for log in logs] == [True, False]
    assert [path.suffixes for log in logs for path in log.tables.values()] == [[".pkl", ".gz"]] * 5 + [[".pkl"]] * 5
    assert {p.name for p in (street_root / "001" / "meta").iterdir()} == {"gps.json", "timestamps.json"}
    for log in logs:
        np.testing.assert_array_equal(log.ego_to_world[0][:3, 3], 0)
        for camera in log.cameras.values():
            assert {Image.open(path).size for path in camera.images.values()} == {OPTIONS.size}
    assert len(logs[0].classes(1)) == len(logs[0].sweep(1).points)


def test_clocks_run_as_in_pandaset(street_root: Path) -> None:
    """Offsets of facts measured on the real frame: the sweep's span, the cameras' times, the PandarGT's."""
    for name in NAMES:
        log = Log(street_root / name)
        np.testing.assert_allclose(np.diff(log.lidar_times), 0.1, atol=1e-6)
        assert log.cameras["front_camera"].times[2] - log.lidar_times[2] == pytest.approx(-0.0498, abs=1e-4)
        assert log.cameras["back_camera"].times[2] - log.lidar_times[2] == pytest.approx(-0.0999, abs=2e-4)
        sweep = log.sweep(2)
        times = sweep.times - log.lidar_times[2]
        spinning, forward = times[sweep.sensors == PANDAR64], times[sweep.sensors == PANDARGT]
        assert (spinning.min(), spinning.max()) == (pytest.approx(-0.101, abs=1e-3), pytest.approx(0.0015, abs=1e-3))
        assert forward.min() - -0.0498 > -0.001
        assert forward.max() < 0.05
        _, seen = projected(log, "front_camera", 2, sweep.points)
        late = sweep.times[seen & (sweep.sensors == PANDAR64)] - log.cameras["front_camera"].times[2]
        assert np.abs(np.percentile(late, (1, 99))).max() < 0.0095


@pytest.mark.parametrize(("camera", "share"), [("front_camera", 0.95), ("left_camera", 0.9), ("back_camera", 0.9)])
def test_lidar_points_lie_on_what_the_image_shows_there(
    street_root: Path, worlds: dict[str, World], camera: str, share: float
) -> None:
    """Points of the Pandar64 and rays of the image, traced at the camera's time, end on the same surfaces.

    All but those at edges that only one of the two sees behind; other cameras sit farther from the lidar.
    """
    for name in NAMES:
        log, truth = Log(street_root / name), Truth.read(street_root, name)
        for frame in (0, 3):
            sweep, things = log.sweep(frame), truth.of_points(frame)
            pixels, seen = projected(log, camera, frame, sweep.points)
            seen &= sweep.sensors == PANDAR64
            if camera == "back_camera":  # at the seam half of the points are as old as a turn
                seen &= np.abs(sweep.times - log.cameras[camera].times[frame]) < 0.02
            assert seen.sum() > 150
            points, hit = looked_at(worlds[name], log, camera, frame, pixels[seen])
            then = np.full(int(seen.sum()), log.cameras[camera].times[frame])
            moved = truth.moved(sweep.points[seen], sweep.times[seen], things[seen], then)
            same = (hit == things[seen]) & (np.linalg.norm(points - moved, axis=1) < 0.3)
            assert same.mean() > share


def test_road_markings_are_bright_where_the_written_cameras_put_them(street_root: Path) -> None:
    """Points of class marking against points of class road in the image; a tilt of a degree must spoil it."""
    log = Log(street_root / "001")
    road, marking = (CLASSES.index(name) + 1 for name in ("Road", "Lane Line Marking"))

    def contrast(shift: tuple[float, float]) -> float:
        bright: dict[int, list[float]] = {road: [], marking: []}
        for frame in FRAMES:
            sweep, classes = log.sweep(frame), log.classes(frame)
            image = np.asarray(Image.open(log.cameras["front_camera"].images[frame]).convert("L"), np.float64)
            pixels, seen = projected(log, "front_camera", frame, sweep.points, margin=12)
            near = np.linalg.norm(sweep.points - log.ego_to_world[frame][:3, 3], axis=1) < 25
            for kind, values in bright.items():
                x, y = (pixels[seen & near & (classes == kind)] + shift).astype(int).T
                values.extend(image[y, x])
        return float(np.mean(bright[marking]) - np.mean(bright[road]))

    assert contrast((0, 0)) > 25
    assert contrast((0, 0)) > 1.5 * max(contrast(s) for s in ((6, 0), (-6, 0), (0, 6), (0, -6)))


def test_rays_find_through_the_tree_what_a_search_of_all_solids_finds(worlds: dict[str, World]) -> None:
    world = worlds["001"]
    rng = np.random.default_rng(3)
    rays = rng.normal(size=(300, 3)) * (1, 1, 0.2)
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    origins = rng.uniform((-5, -5, 1.0), (5, 5, 2.5), (300, 3))
    ranges, hits = np.empty(300), np.empty((300, 2), np.int64)
    away = np.tile([1e6, 1e6, 1.0, 0.0], (300, len(world.bodies), 1))
    measure(world.street, away, origins, rays, ranges, hits, np.empty((300, 2)))
    still = world.street.scene.solids[: world.street.bodies[0, 0]]
    for origin, ray, found in zip(origins, rays, ranges, strict=True):
        assert found == min(distance_to(solid, *origin, *ray) for solid in still)
    assert np.isfinite(ranges).mean() > 0.5


class Names(pickle.Unpickler):
    """Notes what a pickle asks for."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.asked: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        self.asked.add(f"{module}.{name}")
        return super().find_class(module, name)


def test_tables_have_pandasets_columns_and_only_what_any_pandas_can_read(street_root: Path) -> None:
    """Pandas 2 has no `str` columns; a table of pandas 3 with one asks for names that older versions lack."""
    for folder in ("lidar", "annotations/cuboids"):
        with (street_root / "002" / folder / "00.pkl").open("rb") as file:
            names = Names(file)
            names.load()
        assert names.asked <= {
            "pandas.DataFrame", "pandas.Index", "pandas.RangeIndex", "pandas.core.frame.DataFrame",
            "pandas.core.indexes.base.Index", "pandas.core.indexes.base._new_Index",
            "pandas.core.indexes.range.RangeIndex", "pandas.core.internals.managers.BlockManager",
            "pandas._libs.internals._unpickle_block", "builtins.slice", "numpy.dtype", "numpy.ndarray",
            "numpy._core.multiarray._reconstruct", "numpy._core.multiarray.scalar", "numpy._core.numeric._frombuffer",
        }  # fmt: skip
    lidar = read_table(street_root / "002" / "lidar" / "00.pkl")
    assert [(n, str(t)) for n, t in lidar.dtypes.items()] == [
        *((name, "float64") for name in "xyzit"), ("d", "int64"),
    ]  # fmt: skip
    cuboids = read_table(street_root / "002" / "annotations" / "cuboids" / "00.pkl")
    assert {name: str(kind) for name, kind in cuboids.dtypes.items()} == {
        "uuid": "object", "label": "object", "yaw": "float64", "stationary": "bool", "camera_used": "int64",
        **{f"{what}.{axis}": "float64" for what in ("position", "dimensions") for axis in "xyz"},
        "attributes.object_motion": "object", "cuboids.sibling_id": "object", "cuboids.sensor_id": "int64",
        "attributes.pedestrian_behavior": "object", "attributes.pedestrian_age": "object",
        "attributes.rider_status": "object",
    }  # fmt: skip
    assert cuboids.columns.dtype == object
    assert set(cuboids["attributes.object_motion"].dropna()) == {"Moving", "Parked"}


def test_the_papers_index_is_cut_from_logs_of_full_length(tmp_path: Path) -> None:
    options = StreetOptions(logs=2, frames=80, width=32, points=64, cameras=("front_camera",))
    make_street(tmp_path / "logs", options)
    full = tmp_path / "full.pkl"
    write_clip_index(tmp_path / "logs", full, tmp_path / "tiny.pkl", tmp_path / "report.json", IndexOptions(), Job())
    found = [(clip.scene_id, clip.split, clip.setting) for clip in read_index(full)]
    assert len(found) == 22
    assert found.count(("001", "test", "eval_future")) == 4
    assert found.count(("002", "train", "train_interpolation")) == 12
    assert found.count(("002", "train", "train_future")) == 6
    truth = Truth.read(tmp_path / "logs", "001")
    moving = [i for i, t in enumerate(truth.things) if t.path.speed > 0]
    times = truth.start + np.arange(80) * 0.1
    middles = np.stack([truth.poses(i, times)[:, :2] for i in moving])
    gaps = np.linalg.norm(middles[:, None] - middles[None], axis=-1) + 99 * np.eye(len(moving))[:, :, None]
    assert gaps.min() > 0.5


def test_other_peoples_logs_are_not_touched_and_older_samples_are(tmp_path: Path) -> None:
    make_street(tmp_path, SMALL)
    make_street(tmp_path, SMALL.model_copy(update={"logs": 1}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["001", "sample.json", "truth"]
    (tmp_path / "158" / "lidar").mkdir(parents=True)
    with pytest.raises(UserError, match="has log 158, which is no sample"):
        make_street(tmp_path, SMALL)
    assert (tmp_path / "sample.json").exists()


def test_a_log_that_a_killed_process_left_half_written_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / ".001.0123abcd-1.partial" / "lidar").mkdir(parents=True)
    make_street(tmp_path, SMALL.model_copy(update={"logs": 1}))
    assert (tmp_path / "sample.json").exists()


def test_each_laser_fires_into_its_own_direction_and_few_beams_go_all_round() -> None:
    beams = street_sensors.pandar64(640, 0.5)
    azimuth = np.degrees(np.arctan2(beams.directions[:, 0], beams.directions[:, 1]))
    elevation = np.degrees(np.arcsin(beams.directions[:, 2]))
    assert (np.bincount(np.digitize(azimuth, np.arange(-180, 180, 45)))[1:] == 80).all()
    assert len(np.unique(elevation.round(3))) == 64
    assert (elevation.min(), elevation.max()) == (pytest.approx(-25), pytest.approx(15))
