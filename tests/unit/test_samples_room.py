"""The sample room: its photos must be reproducible and its cameras exact."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pycolmap
import pytest
from PIL import Image

from splatdag.samples import room, scene, solids
from splatdag.samples.photography import look_at

SIZE, PHOTOS = (160, 120), 8


@pytest.fixture(scope="module")
def furniture() -> scene.Scene:
    return scene.assemble(scene.furnish(np.random.default_rng([0, 0])))


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("room")
    room.make_room(out, *SIZE, photos=PHOTOS)
    return out


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def linear(path: Path) -> np.ndarray:
    srgb = np.asarray(Image.open(path), dtype=np.float64) / 255
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def colmap_camera(cameras: dict[str, Any]) -> pycolmap.Camera:
    assert cameras["fx"] == cameras["fy"]
    params = [cameras["fx"], cameras["cx"], cameras["cy"], *cameras["distortion"]]
    return pycolmap.Camera(model=cameras["model"], width=cameras["width"], height=cameras["height"], params=params)


def project(camera: pycolmap.Camera, world_to_camera: np.ndarray, points: np.ndarray) -> np.ndarray:
    local = points @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]
    assert (local[:, 2] > 0).all()
    return np.asarray(camera.img_from_cam(local))


def sampled(image: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Bilinear colours at pixels whose first centre is (0.5, 0.5); NaN outside."""
    x, y = (pixels - 0.5).T
    inside = (x >= 0) & (y >= 0) & (x < image.shape[1] - 1) & (y < image.shape[0] - 1)
    x, y = np.where(inside, x, 0), np.where(inside, y, 0)
    i, j = y.astype(int), x.astype(int)
    fx, fy = (x - j)[:, None], (y - i)[:, None]
    top = image[i, j] * (1 - fx) + image[i, j + 1] * fx
    bottom = image[i + 1, j] * (1 - fx) + image[i + 1, j + 1] * fx
    return np.where(inside[:, None], top * (1 - fy) + bottom * fy, np.nan)


def test_one_thread_and_a_second_run_give_the_same_bytes(capture: Path, tmp_path: Path) -> None:
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        room.make_room(tmp_path, *SIZE, photos=PHOTOS)
    finally:
        numba.set_num_threads(threads)
    files = sorted(path.relative_to(capture) for path in capture.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert all((capture / name).read_bytes() == (tmp_path / name).read_bytes() for name in files)


def test_every_photo_is_listed_with_its_digest_and_its_camera(capture: Path) -> None:
    digests = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (capture / "images").iterdir()}
    assert read(capture / "sample.json")["photos"] == digests
    assert len(digests) == PHOTOS
    assert [photo["name"] for photo in read(capture / "cameras.json")["photos"]] == sorted(digests)
    assert {Image.open(capture / "images" / name).size for name in digests} == {SIZE}
    assert not any(Image.open(capture / "images" / name).getexif() for name in digests)


def test_an_interrupted_run_leaves_a_folder_that_says_so(
    capture: Path, furniture: scene.Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_at_third(*args: Any) -> np.ndarray:
        if args[2].name == "IMG_0003.jpg":
            raise OSError("disk full")
        return np.zeros((16, 16, 3), np.uint8)

    monkeypatch.setattr(room, "assemble", lambda _: furniture)
    (tmp_path / "images").mkdir()
    (tmp_path / "sample.json").write_bytes((capture / "sample.json").read_bytes())
    (tmp_path / "images" / "IMG_0099.jpg").write_bytes(b"of a longer walk")
    monkeypatch.setattr(room, "develop", fail_at_third)
    with pytest.raises(OSError, match="disk full"):
        room.make_room(tmp_path, 16, 16, photos=4)
    assert not (tmp_path / "sample.json").exists()
    assert not (tmp_path / "images" / "IMG_0099.jpg").exists()


def test_too_few_photos_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        room.make_room(tmp_path / "new", photos=1)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("corner", [(0, 0), (0.28, 0.2), (-0.3, 0.22)])
def test_a_sphere_appears_where_colmap_projects_its_outline(corner: tuple[float, float]) -> None:
    """A white ball in a black room: the silhouette's centre and area against the projected tangent circle."""
    black, white = np.zeros((4, 4, 3), np.float32), np.ones((4, 4, 3), np.float32)
    centre, radius = np.array([0.3, -0.2, 1.1]), 0.2
    dark = scene.Solid("room", solids.BOX, (0, 0, 1.3), (2.5, 2.0, 1.3), (black,))
    ball = scene.Solid("ball", solids.SPHERE, tuple(centre), (radius,) * 3, (white,), glow=1.0)
    eye = np.array([0.5, -1.9, 1.3])
    pose = look_at(eye, centre, (0.0, 0.0, 1.0), roll=0.1)
    pose[:3, 3] += np.linalg.norm(centre - eye) * np.array([*corner, 0.0])
    lens = room.Lens(320, 240)
    photo = room.Photo("ball.jpg", 1.0, pose)
    camera = colmap_camera(room.describe(lens, [photo]))

    coverage = room.develop(scene.assemble([dark, ball]), lens, photo)[..., 0] / 255
    coverage = np.where(coverage <= 0.04045, coverage / 12.92, ((coverage + 0.055) / 1.055) ** 2.4)
    rows, columns = np.mgrid[: lens.height, : lens.width] + 0.5
    seen = np.array([(coverage * columns).sum(), (coverage * rows).sum()]) / coverage.sum()

    eye = -pose[:3, :3].T @ pose[:3, 3]
    axis = centre - eye
    distance = np.linalg.norm(axis)
    axis /= distance
    side = np.cross(axis, (0, 0, 1)) / np.linalg.norm(np.cross(axis, (0, 0, 1)))
    angle = np.linspace(0, 2 * np.pi, 720, endpoint=False)[:, None]
    around = np.cos(angle) * side + np.sin(angle) * np.cross(axis, side)
    rim = radius * np.sqrt(1 - (radius / distance) ** 2)
    x, y = project(camera, pose, centre - axis * radius**2 / distance + rim * around).T
    cross = x * np.roll(y, -1) - np.roll(x, -1) * y
    area = cross.sum() / 2
    expected = np.array([((x + np.roll(x, -1)) * cross).sum(), ((y + np.roll(y, -1)) * cross).sum()]) / (6 * area)

    assert min(x.min(), y.min(), lens.width - x.max(), lens.height - y.max()) > 0
    assert np.abs(seen - expected).max() < 0.05
    assert coverage.sum() == pytest.approx(abs(area), rel=0.01)


def test_photos_agree_on_the_rug_only_where_the_written_cameras_put_it(capture: Path, furniture: scene.Scene) -> None:
    """Unoccluded points of the rug in the photos of both passes; half a pixel off must spoil it."""
    cameras = read(capture / "cameras.json")
    camera = colmap_camera(cameras)
    x, y = np.meshgrid(np.linspace(-1.3, 1.3, 120), np.linspace(-0.98, 0.98, 90))
    points = np.stack([x.ravel(), y.ravel(), np.full(x.size, 0.012)], axis=1)

    def colours(photo: dict[str, Any], shift: float) -> np.ndarray:
        pose = np.array(photo["world_to_camera"])
        eye = -pose[:3, :3].T @ pose[:3, 3]
        distance = np.linalg.norm(points - eye, axis=1)
        rays = (points - eye) / distance[:, None]
        first = np.array([solids.nearest(furniture.solids, *eye, *ray)[0] for ray in rays])
        image = linear(capture / "images" / photo["name"]) / photo["exposure"]
        seen = sampled(image, project(camera, pose, points) + shift)
        return np.where((np.abs(first - distance) < 1e-3)[:, None], seen, np.nan)

    def disagreement(shift: float) -> float:
        pairs = ((cameras["photos"][i], cameras["photos"][-1 - i]) for i in range(PHOTOS // 2))
        gaps = [np.abs(colours(low, 0) - colours(high, shift)) for low, high in pairs]
        return float(np.mean([np.nanmean(gap) for gap in gaps]))

    assert disagreement(0) < 0.7 * min(disagreement(-0.5), disagreement(0.5))


def test_exposure_multiplies_linear_light_within_two_percent(capture: Path, furniture: scene.Scene) -> None:
    cameras = read(capture / "cameras.json")
    gains = np.array([photo["exposure"] for photo in cameras["photos"]])
    assert np.abs(gains - 1).max() <= 0.02
    assert np.ptp(gains) > 0.01
    for photo, gain in zip(cameras["photos"], gains, strict=True):
        plain = room.Photo(photo["name"], 1.0, np.array(photo["world_to_camera"]))
        srgb = room.develop(furniture, room.Lens(*SIZE), plain) / 255
        reference = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
        taken = linear(capture / "images" / photo["name"])
        unclipped = (reference < 0.9).all(axis=-1) & (reference > 0.02).all(axis=-1)
        assert taken[unclipped].sum() / reference[unclipped].sum() == pytest.approx(gain, abs=0.002)


def test_the_walk_keeps_neighbours_close_and_clear_of_furniture() -> None:
    shots = list(room.walk(40, seed=0))
    eyes = np.array([-s.world_to_camera[:3, :3].T @ s.world_to_camera[:3, 3] for s in shots])
    azimuth = np.degrees(np.arctan2(eyes[:, 1], eyes[:, 0]))
    steps = np.abs((np.diff(azimuth) + 180) % 360 - 180)
    assert steps.max() < 16
    assert np.median(steps) < 12
    for height, part in zip(room.HEIGHTS, (eyes[:20], eyes[20:]), strict=True):
        assert np.abs(part[:, 2] - height).max() < 0.1
    for solid in scene.furnish(np.random.default_rng([0, 0]))[1:]:
        if solid.kind == solids.BOX:
            half = np.array(solid.size)
        else:
            half = np.array([max(solid.size[:2])] * 2 + [solid.size[2]])
        gaps = np.maximum(np.abs(eyes - solid.centre) - half, 0)
        assert np.linalg.norm(gaps, axis=1).min() > 0.2, solid.name
