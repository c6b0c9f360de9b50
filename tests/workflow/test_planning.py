"""What is planned, and what is refused before anything is planned."""

import json
import re
import shutil
import subprocess
import sys

import pytest
from support.plans import SHEET, planned
from support.scenes import write_gaussian_scene


def test_planned_jobs_of_every_target_are_those_on_record(snakemake, project, repository, request):
    """The record is tests/workflow/planned_jobs.json; after a wanted change: `pytest --record`."""
    targets = re.findall(r"^(\w+) \(", snakemake("--list-target-rules").stdout, re.MULTILINE)
    assert {"all", "captures", "compare", "status"} <= set(targets)
    found = {
        target: planned(snakemake("-n", "-p", "--cores", "2", target).stdout.replace(str(project), "PROJECT"))
        for target in targets
    }
    found = {target: {rule: sorted(jobs[rule]) for rule in sorted(jobs)} for target, jobs in found.items()}
    record = repository / "tests" / "workflow" / "planned_jobs.json"
    if request.config.getoption("--record"):
        record.write_text(json.dumps(found, indent=2) + "\n")
    assert found == json.loads(record.read_text())


def test_the_command_of_a_job_can_be_typed(snakemake):
    command = planned(snakemake("-n", "-p", "captures").stdout)["train_capture"][0]
    assert command.startswith("exec python -m splatdag.scene.train --data-dir results/samples/room")
    assert "--preset=auto" in command
    assert "--device-count 0" in command
    given = snakemake("-n", "-p", "captures", "--config", "captures={train: {image_cache: disk}}")
    assert "--image-cache disk " in planned(given.stdout)["train_capture"][0]


@pytest.fixture
def garden(project):
    """A capture with cameras, `garden`, and a dataset `eval` in the same frame; a function that sets its row."""
    for name in ("garden", "eval"):
        write_gaussian_scene(project / "data" / name)

    def row(**cells):
        cells = {"capture": "garden", "data_dir": "../data/garden", **cells}
        (project / SHEET).write_text("\t".join(cells) + "\n" + "\t".join(cells.values()) + "\n")

    return row


def test_a_pair_is_one_training_on_all_photos_and_one_on_those_that_match(snakemake, garden):
    garden(match_string="3", preset="tuned")
    done = snakemake("-n", "-p", "captures_dual")
    for variant, flags in (("combined", "--eval-match-string=3"), ("filtered", "--match-string=3")):
        [command] = [line for line in planned(done.stdout)["train_capture"] if f"garden/{variant} " in line]
        assert command.endswith(f"--log logs/captures/garden/{variant}/train.log --preset=tuned {flags}")
    assert len(planned(done.stdout)["pose_capture"]) == 1
    assert done.stdout.count("runtime=1440") == 2
    assert "captures_dual:" not in done.stderr


def test_without_a_match_string_combined_alone_is_planned_and_that_is_said_once(snakemake, garden):
    garden(preset="small")
    done = snakemake("-n", "-p", "captures_dual")
    assert [re.search(r"garden/(\w+) ", line)[1] for line in planned(done.stdout)["train_capture"]] == ["combined"]
    said = "splatdag: captures_dual: garden: no match_string, so only `combined` is planned\n"
    assert done.stderr.count(said) == 1
    assert said not in snakemake("-n", "captures").stderr, "not where the target was not asked for"


def test_each_run_is_evaluated_on_the_external_dataset(snakemake, garden):
    garden(match_string="3", eval_dir="../data/eval", eval_match_string="7")
    for target, variants in (("captures", ["single"]), ("captures_dual", ["combined", "filtered"])):
        commands = planned(snakemake("-n", "-p", target).stdout)["evaluate_capture"]
        assert sorted(commands) == [
            f"exec python -m splatdag.scene.evaluate --run results/captures/garden/{variant}"
            f" --data-dir config/../data/eval --result-dir results/captures/garden/{variant}/eval_on_eval"
            f" --run-id captures/garden/{variant}/eval_on_eval --sample= --device-count 0 --gpu-class any --threads 2"
            f" --log logs/captures/garden/{variant}/eval_on_eval/evaluate.log --eval-match-string=7"
            for variant in variants
        ]


def test_a_result_folder_of_the_users_is_linked_and_costs_no_training_when_it_changes(snakemake, garden):
    garden(result_dir="results/garden_tuned")
    jobs = planned(snakemake("-n", "-p", "captures").stdout)
    assert jobs["link_run"] == [
        "exec python -m splatdag.workflow.link --run-dir results/captures/garden/single --link results/garden_tuned"
        " --receipt results/captures/garden/result_dir_single.txt --run-id captures/garden/single"
        " --log logs/captures/garden/single/link.log"
    ]
    assert not any("garden_tuned" in command for command in jobs["train_capture"])


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("results/captures/garden/filtered/manifest.json", "capture garden: no match_string, so there is no variant"),
        ("results/captures/garden/single/eval_on_x/manifest.json", "capture garden: asked for eval_on_x, but the row"),
    ],
)
def test_a_file_that_the_row_does_not_make_is_refused_in_one_line(snakemake, garden, target, message):
    garden()
    done = snakemake("-n", target)
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if line.startswith("splatdag: ") and message in line]


def test_a_video_becomes_photos_first(snakemake, project):
    (project / "data").mkdir()
    (project / "data" / "walk.mp4").write_bytes(b"video")
    (project / SHEET).write_text("capture\tdata_dir\tframes.num_frames\nwalk\t../data/walk.mp4\t30\n")
    jobs = planned(snakemake("-n", "-p", "captures").stdout)
    assert jobs["extract_frames"] == [
        "exec python -m splatdag.captures.frames --video config/../data/walk.mp4 --out results/captures/walk/images"
        " --threads 2 --run-id captures/walk/ --log logs/captures/walk/frames.log --num-frames=30"
    ]
    for rule in ("pose_capture", "train_capture"):
        assert "--data-dir results/captures/walk/images " in jobs[rule][0]


def test_settings_without_effect_are_told_once_by_the_main_process(snakemake, garden):
    garden(preset="tuned", **{"train.depth_lambda": "0.1"})
    lines = [line for line in snakemake("-n", "captures").stderr.splitlines() if line.startswith("splatdag: ")]
    where = "splatdag: config/captures.tsv, line 2: capture garden: train: "
    assert [line.startswith(where) for line in lines] == [True, True]
    assert "strategy.prune_scale3d and strategy.prune_scale2d: without effect" in lines[0]
    given = '{"train": {"depth_lambda": 0.1}}'
    lines = snakemake("-n", "captures", "--config", f"captures={given}").stderr.splitlines()
    assert "splatdag: config: captures.train: depth_lambda: without effect without depth_loss" in lines


def test_planning_needs_no_torch(project, repository):
    """A login node may have Snakemake and this package alone."""
    blocked = project / "blocked"
    blocked.mkdir()
    for name in ("torch", "numba", "cv2", "pycolmap", "gsplat"):
        (blocked / f"{name}.py").write_text("raise ImportError('not here')\n")
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n"],
        cwd=project,
        env={"PYTHONPATH": f"{blocked}:{repository / 'scripts'}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "train_capture" in done.stdout


def test_every_rule_has_a_docstring_and_a_log(repository):
    text = "".join(path.read_text() for path in (repository / "rules").glob("*.smk"))
    rules = re.split(r"^rule ", text, flags=re.MULTILINE)[1:]
    assert len(rules) >= 6
    for rule in rules:
        assert re.match(r'\w+:\n    """[A-Z]', rule), rule[:60]
        if "shell:" in rule:
            assert "log:" in rule, rule[:60]
            assert '"exec ' in rule, rule[:60]


def test_rules_named_in_profiles_exist(repository):
    import yaml

    rules = set(re.findall(r"^rule (\w+):", "".join(p.read_text() for p in (repository / "rules").glob("*.smk")), re.M))
    named = set()
    for profile in (repository / "workflow_profiles").glob("*/config.yaml"):
        settings = yaml.safe_load(profile.read_text())
        for key in ("groups", "set-resources", "set-threads"):
            assert set(settings.get(key, {})) <= rules, profile
            named |= set(settings.get(key, {}))
    assert named, "none was looked for"


REFUSED = {
    "unknown key": (
        "--config",
        'captures={"trian": {}}',
        "config.captures.trian: unknown key; the nearest is train",
    ),
    "wrong type": (
        "--config",
        'captures={"train": {"max_steps": "x"}}',
        "config.captures.train.max_steps: input should",
    ),
    "out of range": (
        "--config",
        'captures={"train": {"max_steps": 0}}',
        "max_steps: input should be greater than 0",
    ),
    "unknown section": ("--config", "capturs=3", "config.capturs: unknown key; the nearest is captures"),
    "missing profile": (
        "--workflow-profile",
        "slurmm",
        "--workflow-profile slurmm: no such profile; the nearest is slurm",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_config_stops_with_one_line(snakemake, project, case):
    *arguments, message = REFUSED[case]
    _is_refused(snakemake("captures", *arguments), project, message)


def test_a_mistyped_profile_stops_the_run_beside_config_on_the_command_line(snakemake, project):
    done = snakemake("captures", "--config", "samples={}", "--workflow-profile", "slurmm")
    _is_refused(done, project, "--workflow-profile slurmm: no such profile")


ROWS = {
    "missing folder": ("dog\tnowhere", "capture dog: data_dir: no such folder"),
    "empty folder": ("dog\tempty", "capture dog: data_dir: no photos"),
    "duplicate": ("room\tsample:room", "capture 'room' is there twice"),
    "slash": ("a/b\tsample:room", "'a/b' is not a name"),
    "dots": ("..\tsample:room", "'..' is not a name"),
    "space": ("a b\tsample:room", "'a b' is not a name"),
    "quote": ("a'b\tsample:room", "is not a name"),
    "leading dash": ("-n\tsample:room", "'-n' is not a name"),
}


@pytest.mark.parametrize("case", ROWS)
def test_a_wrong_row_stops_with_one_line(snakemake, project, case):
    row, message = ROWS[case]
    (project / "config" / "empty").mkdir()
    with (project / SHEET).open("a") as sheet:
        sheet.write(row + "\n")
    _is_refused(snakemake("captures"), project, message)


SNAKEMAKE_SAYS = ("Using workflow specific profile", "Config file config/config.yaml is extended")


def _is_refused(done, project, message):
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if not line.startswith(SNAKEMAKE_SAYS)]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("splatdag: ")
    assert message in lines[0]
    assert not (project / "results").exists()
    assert not (project / "logs").exists()


def test_another_working_directory_uses_its_own_config_and_results(snakemake, project, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = snakemake("-n", "-s", str(project / "Snakefile"), "--cores", "1", cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    (elsewhere / "config").mkdir()
    shutil.copy(project / "config" / "config.yaml", elsewhere / "config")
    (elsewhere / SHEET).write_text("capture\tdata_dir\nmine\tsample:room\n")
    done = snakemake("-n", "-s", str(project / "Snakefile"), "--cores", "1", cwd=elsewhere)
    assert "results/captures/mine/single/manifest.json" in done.stdout


def test_the_workflow_is_a_module_of_another(snakemake, project):
    other = project / "other"
    other.mkdir()
    (other / "Snakefile").write_text(
        f"""
module splats:
    snakefile: "{project}/Snakefile"
    config: {{"captures": {{"train": {{"max_steps": 5}}}}}}
    pathvars:
        results="out",

use rule * from splats as splats_*

rule mine:
    input: rules.splats_captures.input
    default_target: True
"""
    )
    done = snakemake("-n", "-p", "--cores", "1", cwd=other)
    assert done.returncode == 0, done.stderr
    command = planned(done.stdout)["splats_train_capture"][0]
    assert "--result-dir out/captures/room/single" in command
    assert "--max-steps=5" in command
