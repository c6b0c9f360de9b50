"""What every rule asks Slurm for. The record is sbatch_lines.json; this writes it anew:

    pytest tests/slurm/test_sbatch_lines.py --record

A new rule needs a job in TARGETS, or in SHARED if others wait for it, and what it makes in OUTPUTS or SHARED.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from base64 import b64encode
from pathlib import Path

import pytest
import yaml
from box import HANGS

RECORD = Path(__file__).with_name("sbatch_lines.json")
NO_EXPORT = 'sharing={"export": false, "upload": {"repo_id": "lab/x"}}'
SITES = {
    "as shipped": None,
    "everything set": """
slurm_account: lab
gpu_style: gres
bad_nodes: [gpu-2]
cpu: {slurm_partition: cpu, constraint: fast, max_runtime: 300}
gpu_classes: {any: {slurm_partition: gpu, gpu_model: a100, constraint: fast, max_mem_mb: 60000, max_runtime: 1440}}
""",
}
TARGETS = {
    "make_sample room": "samples/room/sample.json",
    "make_sample street": "samples/street/sample.json",
    "extract_frames": "captures/walk/images/frames.json",
    "pose_capture": "captures/dog/registration.json",
    "train_capture single": "captures/cat/single/splat.ply",
    "train_capture combined": "captures/cat/combined/splat.ply",
    "train_capture of a row with its own": "captures/ape/single/splat.ply",
    "evaluate_capture": "captures/owl/single/eval_on_eval/metrics.json",
    "evaluate_ckpt": "captures/theirs/ckpt/manifest.json",
    "upload_scene": "sharing/single/owl.json",
    "record_capture": "captures/emu/single/rerun/capture.rrd",
    "index_pandaset": "driving/index/report.json",
    "index_split": "driving/index/train.json",
    "check_pandaset": "driving/check/report.json",
    "lift_alignment": "driving/lift_alignment/0/alignment.json",
    "voxelization": "driving/voxelization/0/voxelization.json",
    "lift_log": "driving/lift/003.json",
    "draw_flow": "driving/overfit/flow/summary.json",
    "evaluate_flux4d": "driving/flux4d/001/metrics.json",
    "record_drive": "driving/other/001/rerun/driving.rrd",
    "record_epoch": "samples/humans/results/hi4d_pair00_greet/sample/rerun/evaluation_nvs_epoch_0000.rrd",
}
"""One job of each kind, of captures that do not depend on each other."""
SHARED = {
    "compile_kernels": "kernels/any.json",
    "make_sample humans": "samples/humans/sample.json",
    "overfit_flux4d": "driving/overfit/ckpt_last.pt",
    "train_flux4d": "driving/flux4d/ckpt_last.pt",
}
"""Jobs that others wait for, with the file that each makes: they are asked for before."""
LAST = {"merge_flux4d": "driving/flux4d/manifest.json"}
"""Jobs that wait for some of TARGETS, and are asked for after them."""
FINISHED = {
    "dog": [],
    "cat": ["sparse/0"],
    "ape": ["sparse/0"],
    "owl": ["sparse/0", "single"],
    "emu": ["sparse/0", "single"],
}
"""What is there of each capture before."""
CLIP = (
    '{"clip_id": "%s", "scene_id": "%s", "split": "%s", "setting": "x", "frame_start": 0, "frame_end": 1,'
    ' "input_frame_indices": [0], "target_frame_indices": [1]}\n'
)
OUTPUTS = {
    "sparse/0": [f"sparse/0/{part}.bin" for part in ("cameras", "images", "points3D")]
    + ["registration.txt", "registration.json"],
    "single": [
        f"single/{name}.{kind}"
        for name, kind in (
            ("splat", "ply"),
            ("metrics", "json"),
            ("preview", "jpg"),
            ("curves", "png"),
            ("manifest", "json"),
        )
    ],
}


FLUX4D = ("curves.png", "meta.json", "001/metrics.json", "../other/001/metrics.json")


def prepare(project: Path) -> None:
    """A sheet with every kind of capture, driving logs with an index, and what jobs before TARGETS would have made."""
    data = project / "data" / "eval"
    for name in ("images/1.jpg", *(f"sparse/{part}.bin" for part in ("cameras", "images", "points3D"))):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).touch()
    (project / "data" / "walk.mp4").touch()
    for name in ("001", "002", "003"):
        (project / "data" / "logs" / name / "lidar").mkdir(parents=True, exist_ok=True)
    (project / "data" / "clips.jsonl").write_text(
        "".join(CLIP % clip for clip in (("a", "001", "test"), ("b", "002", "train")))
    )
    (project / "data" / "theirs.pt").touch()
    config = project / "config" / "config.yaml"
    text = config.read_text().replace(
        "data_root: sample:street", "data_root: data/logs\n  index_path: data/clips.jsonl"
    )
    sheet_line = "captures:\n  ckpts: {theirs: {ckpt: data/theirs.pt, data_dir: data/eval}}\n"
    config.write_text(text if "theirs" in text else text.replace("captures:\n", sheet_line, 1))
    sheet = [
        ["capture", "data_dir", "eval_dir", *(f"resources.train.{name}" for name in ("mem_mb", "runtime", "threads"))],
        ["room", "sample:room"], ["walk", "../data/walk.mp4"], ["dog", "../data/eval"], ["cat", "../data/eval"],
        ["ape", "../data/eval", "", "64000", "60", "8"], ["owl", "../data/eval", "../data/eval"],
        ["emu", "../data/eval"],
    ]  # fmt: skip
    (project / "config" / "captures.tsv").write_text("\n".join("\t".join(row) for row in sheet))
    files = [
        f"captures/{capture}/{name}" for capture in FINISHED for stage in FINISHED[capture] for name in OUTPUTS[stage]
    ]
    flux4d = ["driving/lift/001.json", "driving/lift/002.json", *(f"driving/flux4d/{name}" for name in FLUX4D)]
    for name in [*SHARED.values(), *files, *flux4d, "captures/owl/single/rerun/capture.rrd"]:
        path = project / "results" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")


def sbatch_lines(project: Path, calls: list[list[str]]) -> dict[str, list[str]]:
    """Job → arguments of sbatch at each attempt, as a run on a Slurm that refuses every job gives them."""
    found: dict[str, list[str]] = {}
    for name, *arguments in calls:
        if name == "sbatch":
            assert arguments.pop().startswith("--wrap=")
            arguments = [word.replace(str(project), "PROJECT") for word in arguments]
            run = arguments.index("--job-name") + 1
            assert re.fullmatch(r"splatdag_[0-9a-f-]{36}", arguments[run])
            arguments[run] = "splatdag_RUN"
            found.setdefault(arguments[arguments.index("--comment") + 1], []).append(shlex.join(arguments))
    return dict(sorted(found.items()))


@pytest.mark.parametrize("site", SITES)
def test_every_rule_asks_slurm_for_what_is_on_record(project, fake_slurm, request, site):
    if SITES[site]:
        (project / "workflow_profiles" / "slurm" / "site.yaml").write_text(SITES[site])
    prepare(project)
    for targets in (SHARED, TARGETS, LAST):
        if targets:
            done, calls = fake_slurm(*(f"results/{target}" for target in targets.values()), "--force")
            prepare(project)
    found = sbatch_lines(project, calls)
    assert len(found) == len(SHARED) + len(TARGETS) + len(LAST), done.stderr
    if request.config.getoption("--record"):
        record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
        RECORD.write_text(json.dumps(record | {site: found}, indent=1) + "\n")
    assert found == json.loads(RECORD.read_text())[site]


LINE = re.compile(r" -p (\w+) -t (\d+) --mem (\d+) .*--cpus-per-task=(\d+) .*--gpus=(\S+)")
"""Partition, minutes, memory, CPUs and GPUs of a line of sbatch."""
TOLD = re.compile(
    r"resources:.* (\w+_slots)=(\d+).*\n(?:.*\n)*?Shell command: .*--run-id \w+/(?:logs/)?(\w+).* --device-count (\d)"
    r" --gpu-class (\w+) .*--threads (\d+) "
)
"""Of a training as Snakemake tells it: what limits its GPUs, and how many, the run, and flags of its stage. Lines of
the executor may come between."""


def test_what_the_config_a_row_a_run_and_the_command_line_ask_for_reaches_sbatch(project, fake_slurm):
    """The class is submitted, counted against its limit and billed alike."""
    prepare(project)
    path = project / "config" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    of_rule = {"gpu_class": "h100", "gpus": 2, "mem_mb": 50_000, "runtime": 100, "threads": 3}
    config["resources"] = {"train_capture": of_rule}
    own = {"gpu_class": "any", "gpus": 4, "threads": 12}
    config["driving"]["runs"] = {"flux4d": {}, "other": {"resources": {"train": own}}}
    path.write_text(json.dumps(config))

    def asked(*arguments):
        """Run → class, GPUs, minutes, memory and CPUs; sbatch, the limits and the stage are told the same."""
        done, calls = fake_slurm(*arguments, "--force", "--retries", "0")
        lines, found = sbatch_lines(project, calls), {}
        for slots, count, run, devices, name, threads in TOLD.findall(done.stdout + done.stderr):
            [line] = [lines[job][-1] for job in lines if f"wildcards_{run}" in job]
            partition, minutes, memory, cpus, gpus = LINE.search(line).groups()
            assert (partition, slots) == {"any": ("gpu", "gpu_slots"), "h100": ("h100", "h100_slots")}[name]
            assert gpus.removeprefix("h100:") == count == devices
            assert cpus == threads
            found[run] = (name, *map(int, (count, minutes, memory, cpus)))
        return found, calls[-1][-1]

    captures = [f"results/captures/{name}/single/splat.ply" for name in ("cat", "ape")]
    trainings = [f"results/driving/{name}/ckpt_last.pt" for name in ("flux4d", "other")]
    assert asked(*captures, *trainings)[0] == {
        "cat": ("h100", 2, 100, 50_000, 3),
        "ape": ("h100", 2, 60, 64_000, 8),
        "flux4d": ("h100", 1, 720, 48_000, 8),
        "other": ("any", 4, 720, 48_000, 12),
    }
    for name in ("any", "h100"):
        given = f"train_flux4d:gpu_class={name}"
        found, command = asked(*trainings, "--set-resources", given)
        assert found == {"flux4d": (name, 1, 720, 48_000, 8), "other": (name, 4, 720, 48_000, 12)}
        assert b64encode(given.encode()).decode() in command, "the job's own process is told, too"
    done, _ = fake_slurm(*trainings, "--set-resources", "train_flux4d:gpu_class=a100")
    assert done.returncode == 2
    [line] = [line for line in done.stderr.splitlines() if line.startswith("splatdag: ")]
    assert line.startswith("splatdag: config.resources.train_flux4d.gpu_class: input should be 'any' or 'h100'")


def test_slurm_is_told_no_value_of_the_environment_which_jobs_inherit(project, fake_slurm, monkeypatch):
    """So the Hub's token reaches an upload; a command line can be read by all users of a node."""
    prepare(project)
    planted = {"HF_TOKEN": "hf_PlantedForSlurm", "WANDB_API_KEY": "PlantedKey", "NO_SECRET": "PlantedValue"}
    for name, value in planted.items():
        monkeypatch.setenv(name, value)
    done, calls = fake_slurm("upload", "--retries", "0", "--config", NO_EXPORT, "--verbose")
    [line] = [call for call in calls if call[0] == "sbatch"]
    assert "--export=ALL" in line
    assert "rule_upload_scene_wildcards_single_owl" in line
    written = [path.read_text(errors="replace") for path in project.rglob("*") if path.is_file()]
    for text in (json.dumps(calls), done.stdout, done.stderr, *written):
        assert "Planted" not in text


def test_the_record_has_every_rule_that_goes_to_slurm(repository):
    text = "".join(path.read_text() for path in (repository / "rules").glob("*.smk"))
    local = set(re.findall(r"\w+", " ".join(re.findall(r"^localrules:\n((?:    \w+,\n)+)", text, re.MULTILINE))))
    rules = {rule.partition(":")[0] for rule in re.split(r"^rule ", text, flags=re.MULTILINE)[1:] if "shell:" in rule}
    jobs = [job.removeprefix("rule_") for job in json.loads(RECORD.read_text())["as shipped"]]
    recorded = {
        rule for rule in rules for job in jobs if re.search(f"^{rule}(_wildcards|$)|^frames_and_.*_{rule}$", job)
    }
    assert recorded == rules - local


@pytest.mark.parametrize("site", SITES)
def test_the_record_says_what_the_old_scripts_asked_for(site):
    """gsplat's single run: 1 GPU, 32 GB, 12 h, 2 CPUs, without the bad nodes; a day for each of a pair."""
    jobs = json.loads(RECORD.read_text())[site]
    single, pair = (
        jobs[f"rule_train_capture_wildcards_cat_{variant}"][0].split() for variant in ("single", "combined")
    )
    for line in (single, pair):
        assert line[line.index("--mem") + 1] == "32000"
        assert "--cpus-per-task=2" in line
        assert ("--exclude=gpu-2" in line) == (site == "everything set")
        assert {"--gpus=1", "--gres=gpu:a100:1"} & set(line)
    assert (single[single.index("-t") + 1], pair[pair.index("-t") + 1]) == ("720", "1440")
    for line in [line.split() for lines in jobs.values() for line in lines]:
        assert int(line[line.index("--mem") + 1]) >= 1000
        assert "--no-requeue" in line


@pytest.mark.parametrize("site", SITES)
def test_slurm_accepts_every_line(box, site, tmp_path):
    for lines in json.loads(RECORD.read_text())[site].values():
        for line in lines:
            arguments = shlex.split(line.replace("PROJECT", str(tmp_path)))
            done = subprocess.run(
                ["sbatch", "--test-only", *arguments, "--wrap=true"],
                env=box.environment,
                capture_output=True,
                text=True,
                timeout=HANGS,
            )
            assert re.search(r"to start at .* on nodes? \S+ in partition", done.stderr), (line, done.stderr)
