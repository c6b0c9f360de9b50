"""What jobs of driving are told of the logs: a job runs again when what it reads changes, and only then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.area_plans import MakePlans, job, write
from support.area_plans import plans as plans
from support.pandaset_logs import changed_list, swapped, write_lines, write_metadata

from splatdag.workflow.errors import UserError

TEST, TRAIN, OTHER = "001", "002", "003"
"""The first is one of the paper's test logs."""
JOBS: dict[str, tuple[tuple[str, str], dict[str, str]]] = {
    "index": (("lists_digest", "index_flags"), {}),
    "index test": (("split_digest", "split_logs", "split_flags"), {"split": "test"}),
    "index train": (("split_digest", "split_logs", "split_flags"), {"split": "train"}),
    "train": (("training_digest", "training_clips"), {"run": "flux4d"}),
    "measure": (("measured_digest", "measured_clips"), {"run": "flux4d", "scene": TEST}),
    "lift test": (("log_digest", "clips_of_log"), {"scene": TEST}),
    "lift train": (("log_digest", "clips_of_log"), {"scene": TRAIN}),
    "overfit": (("overfit_digest", "clips"), {"overfit": "overfit"}),
    "flow": (("flow_digest", "clips"), {"run": "overfit"}),
    "flow of all": (("flow_digest", "clips"), {"run": "flux4d"}),
    "check": (("checked_digest", "check_flags"), {}),
    "alignment": (("alignment_digest", "clips"), {}),
    "voxels": (("clips_digest", "clips"), {}),
}
"""What tells each job of its data and clips."""
OF_TEST = {"measure", "lift test", "flow of all", "check"}
OF_TRAIN = {"train", "lift train", "overfit", "flow", "flow of all", "check", "alignment", "voxels"}


@pytest.fixture
def told(plans: MakePlans, tmp_path: Path) -> Callable[..., dict[str, tuple[Any, ...]]]:
    """What each job is told, as another run of Snakemake would find it now; the tiny index has the log to train on."""
    for name in (TEST, TRAIN, OTHER):
        log = write_metadata(tmp_path / "data", name, frames=80)
        for path in (log / "lidar" / "00.pkl.gz", log / "camera" / "front_camera" / "00.jpg"):
            path.write_bytes(b"full")

    def tell(**driving: Any) -> dict[str, tuple[Any, ...]]:
        given = {"data_root": "data", "index": {"tiny_scenes": [TRAIN]}, **driving}
        plan = plans({"driving": given})["driving"]
        return {
            name: tuple(getattr(plan, method)(job(**wildcards)) for method in methods)
            for name, (methods, wildcards) in JOBS.items()
        }

    return tell


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


CHANGES: dict[str, tuple[Callable[[Path], object], set[str], set[str]]] = {
    "an image of equal size and time": (
        lambda log: swapped(log / "camera" / "front_camera" / "00.jpg"), OF_TEST, OF_TRAIN,
    ),
    "lidar of equal size and time": (lambda log: swapped(log / "lidar" / "00.pkl.gz"), OF_TEST, OF_TRAIN),
    "a list": (
        lambda log: changed_list(log / "lidar" / "timestamps.json", lambda times: [time + 1 for time in times]),
        OF_TEST | {"index", "index test"}, OF_TRAIN | {"index", "index train"},
    ),
    "boxes": (
        lambda log: write(log / "annotations" / "cuboids" / "00.pkl"),
        {"measure", "flow of all", "check"}, {"overfit", "flow", "flow of all", "check"},
    ),
    "another camera": (lambda log: swapped(log / "camera" / "back_camera" / "poses.json"), {"check"}, {"check"}),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_job_is_told_of_a_change_in_the_logs_that_it_reads_alone(
    told: Callable[..., dict[str, Any]], tmp_path: Path, name: str
) -> None:
    """So a training does not run again when a log changes that it never reads."""
    change, of_test, of_train = CHANGES[name]
    before = told()
    assert told() == before
    change(tmp_path / "data" / TEST)
    between = told()
    assert changed(before, between) == of_test
    change(tmp_path / "data" / TRAIN)
    assert changed(between, told()) == of_train


def test_a_new_test_log_leaves_the_training_alone(told: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    before = told()
    write_metadata(tmp_path / "data", "011", frames=80)
    assert changed(before, told()) == {"index", "index test", "check", "flow of all"}
    write_metadata(tmp_path / "data", "012", frames=80)
    assert {"train", "index train"} <= changed(before, told())


def test_options_that_only_say_which_logs_are_measured_leave_the_clips_of_others_alone(
    told: Callable[..., dict[str, Any]],
) -> None:
    both = told(index={"tiny_scenes": [TRAIN], "val_scenes": [TEST]})
    assert changed(told(), both) == {"index"}, "the same test logs, by name"
    fewer = told(index={"tiny_scenes": [TRAIN], "val_scenes": [TEST, OTHER]})
    assert changed(both, fewer) == {"index", "index test", "index train", "train"}
    cut = told(index={"tiny_scenes": [TRAIN], "preset": "debug"})
    assert changed(told(), cut) == {"index", "index test", "index train"}, "and what reads these"


def test_an_index_of_ones_own_tells_each_job_of_its_clips(told: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    def index(*clips: tuple[str, str, int]) -> dict[str, str]:
        lines = [
            write_lines(tmp_path / "one.jsonl", scene, 11, inputs=[0, length], split=split).read_text()
            for scene, split, length in clips
        ]
        write(tmp_path / "mine.jsonl", "".join(lines))
        return {"index_path": "mine.jsonl"}

    train, test = (TRAIN, "train", 10), (TEST, "test", 10)
    before = told(**index(train, test))
    by_number = {"overfit", "flow", "flow of all", "alignment", "voxels"}
    assert changed(before, told(**index(test, train))) == by_number, "clips that jobs name by their number"
    other_test = told(**index(train, (TEST, "test", 9)))
    assert changed(before, other_test) == {
        "measure",
        "lift test",
        "overfit",
        "flow",
        "flow of all",
        "alignment",
        "voxels",
    }
    other_train = told(**index((TRAIN, "train", 9), test))
    assert changed(before, other_train) == {
        "train",
        "lift train",
        "overfit",
        "flow",
        "flow of all",
        "alignment",
        "voxels",
    }
    more = index(train, test, (OTHER, "test", 10))
    assert {"train", "measure", "lift train"}.isdisjoint(changed(before, told(**more)))
    few = {"evaluate": {"max_eval_clips": 5}}
    assert "measure" in changed(
        told(**index(train, test), **few), told(**index(train, test, (OTHER, "test", 10)), **few)
    )


def test_the_bundled_logs_are_what_they_are_made_by(plans: MakePlans) -> None:
    def digest(**street: Any) -> str:
        plan = plans({"driving": {"data_root": "sample:street"}, "samples": {"street": street}})["driving"]
        assert plan.sample(job()).startswith("street (")
        assert plan.data(job()) == "<results>/samples/street/sample.json"
        return str(plan.training_digest(job(run="flux4d")))

    assert digest() != digest(frames=9)
    assert digest() == digest()


def test_a_log_or_folder_that_is_not_there_is_one_line(plans: MakePlans, told: object) -> None:
    plan = plans({"driving": {"data_root": "data", "check": {"scenes": ["009"]}}})["driving"]
    with pytest.raises(UserError, match=r"config\.driving\.check\.scenes: data has no log '009'"):
        plan.checked_data(job())
    with pytest.raises(UserError, match=r"config\.driving\.data_root: data has no log '009'"):
        plan.log_digest(job(scene="009"))
    assert plan.sample(job()) == ""
    for root, message in (("nowhere", "nowhere has no PandaSet logs"), (None, "not set; it names the folder")):
        plan = plans({"driving": {"data_root": root}})["driving"]
        with pytest.raises(UserError, match=rf"config\.driving\.data_root: {message}"):
            plan.data(job())
    gone = plans({"driving": {"data_root": "data", "index_path": "gone.jsonl"}})["driving"]
    with pytest.raises(UserError, match="config.driving.index_path: no such file: gone.jsonl"):
        gone.index(job())


def test_what_is_measured_and_recorded_of_each_log(plans: MakePlans, told: object) -> None:
    plan = plans({"driving": {"data_root": "data", "runs": {"a": {}, "b": {}}}})["driving"]
    assert plan.split == ([TRAIN, OTHER], [TEST])
    assert plan.training_points(job(run="a")) == [f"results/driving/lift/{name}.json" for name in (TRAIN, OTHER)]
    assert plan.measured_rows(job(run="b")) == [f"results/driving/b/{TEST}/metrics.json"]
    assert plan.recorded(job(run="b", scene=TEST)) == f"results/driving/b/{TEST}/metrics.json"
    assert plan.recorded(job(run="overfit", scene="clip_0")) == "results/driving/overfit/manifest.json"


def test_motion_is_drawn_of_a_checkpoint_file_through_any_camera(told: Any, plans: MakePlans, tmp_path: Path) -> None:
    folder = tmp_path / "data" / TRAIN / "camera" / "back_camera"
    folder.mkdir(exist_ok=True)
    given = {"data_root": "data", "index": {"tiny_scenes": [TRAIN]}, "flow_runs": ["theirs"]}
    given |= {"ckpts": {"theirs": {"ckpt": "theirs.pt", "flow": {"camera": "back_camera"}}}, "flow": {"mode": "both"}}
    of_job = job(run="theirs")
    with pytest.raises(UserError, match="config.driving.ckpts.theirs.ckpt: no such file: theirs.pt"):
        plans({"driving": given})["driving"].measured_ckpt(of_job)
    write("theirs.pt", "some")
    plan = plans({"driving": given})["driving"]
    assert plan.flow_summaries() == ["results/driving/theirs/flow/summary.json"]
    assert (str(plan.measured_ckpt(of_job)), plan.ckpt_file(of_job)) == ("theirs.pt", "theirs.pt")
    assert (plan.flow_index(of_job), plan.flow_flags(of_job)) == (plan.tiny(of_job), ["--camera=back_camera"])
    before = plan.flow_digest(of_job), plan.ckpt_digest(of_job)
    write("theirs.pt", "others")
    write(folder / "00.jpg", "another")
    after = plans({"driving": given})["driving"]
    assert after.ckpt_digest(of_job) != before[1]
    assert after.flow_digest(of_job) != before[0], "its images count"
