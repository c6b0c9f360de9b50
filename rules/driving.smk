"""Driving: PandaSet's logs to clips, checked and lifted; flux4d.smk trains on them.

Needs a folder of logs (config: driving.data_root), in PandaSet's layout. Makes below results/driving
- index/: which frames of which logs are given and which are predicted, of all logs and of a few (tiny), as pickle and
  as JSON lines, and report.json, which says what was left out and why; the same of the logs to train on, and of those to
  measure on
- check/: report.json, report.txt and a picture of each log, of all that can be measured
- lift_alignment/<clip>/ and voxelization/<clip>/: pictures and figures of one clip of the index
- lift/: lidar points of frames with their colours, kept for trainings

A training reads an index of the logs to train on, not that of all logs as `ancient`: beside a job that makes an ancient
input anew, Snakemake 9.27 plans no job that only other inputs, parameters or missing outputs ask for.
"""

from splatdag.driving.targets import alignment_files, full_index, lines_of, split_index, tiny_index

driving = RULES["driving"]
INDEX_FULL, INDEX_TINY = full_index(CONFIG.driving), tiny_index(CONFIG.driving)
CHECKED = driving.checked_logs(None) if driving.runs("check_pandaset") else []
ALIGNED, VOXELIZED = str(CONFIG.driving.alignment.clip_index), str(CONFIG.driving.voxelization.clip_index)


rule driving:
    """The clips of all driving logs, runs on one of them with pictures of its motion, and runs on all, measured."""
    input:
        driving.target("driving"),


rule index_pandaset:
    """Cut clips from all driving logs, and from a few; only lists of poses and times and names of files are read."""
    input:
        logs=made(driving.data),
    output:
        full=INDEX_FULL,
        full_lines=lines_of(INDEX_FULL),
        tiny=INDEX_TINY,
        tiny_lines=lines_of(INDEX_TINY),
        report=driving.output("index_pandaset"),
    log:
        driving.log("index_pandaset"),
    benchmark:
        driving.benchmark("index_pandaset")
    conda:
        "../envs/core.yaml"
    threads: driving.threads("index_pandaset")
    resources:
        **driving.resources("index_pandaset"),
    params:
        data_root=path_of(driving.data),
        data=driving.lists_digest,
        flags=driving.index_flags,
        code=driving.code("index_pandaset"),
    shell:
        "exec python -m splatdag.driving.clips.index --data-root {params.data_root:q} --out-full {output.full:q}"
        " --out-tiny {output.tiny:q} --report {output.report:q} --threads {threads}"
        " --run-id driving/logs/index --log {log:q} {params.flags:q}"


rule index_split:
    """Cut the clips of the logs to train on, or of those to measure on: an edit of one of these trains nothing again."""
    input:
        logs=made(driving.data),
    output:
        index=split_index("{split}"),
        lines=lines_of(split_index("{split}")),
        report=driving.output("index_split"),
    log:
        driving.log("index_split"),
    benchmark:
        driving.benchmark("index_split")
    wildcard_constraints:
        split="train|test",
    conda:
        "../envs/core.yaml"
    threads: driving.threads("index_split")
    resources:
        **driving.resources("index_split"),
    params:
        data_root=path_of(driving.data),
        data=driving.split_digest,
        scenes=driving.split_logs,
        flags=driving.split_flags,
        code=driving.code("index_split"),
    shell:
        "exec python -m splatdag.driving.clips.index_split --data-root {params.data_root:q} --split {wildcards.split}"
        " --out {output.index:q} --report {output.report:q} --threads {threads}"
        " --run-id driving/logs/index_{wildcards.split} --log {log:q} --scenes {params.scenes:q}"
        " {params.flags:q}"


rule check_pandaset:
    """Measure and draw what the driving logs hold: lengths, clocks, frames, lidars, projection, boxes."""
    input:
        logs=made(driving.checked_data),
    output:
        report=driving.output("check_pandaset"),
        table="<results>/driving/check/report.txt",
        pictures=expand("<results>/driving/check/{scene}.jpg", scene=CHECKED),
    log:
        driving.log("check_pandaset"),
    benchmark:
        driving.benchmark("check_pandaset")
    conda:
        "../envs/core.yaml"
    threads: driving.threads("check_pandaset")
    resources:
        **driving.resources("check_pandaset"),
    params:
        data_root=path_of(driving.checked_data),
        data=driving.checked_digest,
        flags=driving.check_flags,
        code=driving.code("check_pandaset"),
        out=subpath(output.report, parent=True),
    shell:
        "exec python -m splatdag.driving.checks.check --data-root {params.data_root:q} --out-dir {params.out:q}"
        " --threads {threads} --run-id driving/logs/check --log {log:q} {params.flags:q}"


rule lift_alignment:
    """Draw the lidar points of one frame over its image, and maps of them: whether lidar, poses and cameras fit."""
    input:
        logs=made(driving.data),
        index=made(driving.tiny),
    output:
        facts=driving.output("lift_alignment", clip=ALIGNED),
        pictures=expand(
            f"<results>/driving/lift_alignment/{ALIGNED}/{{picture}}",
            picture=alignment_files(CONFIG.driving.alignment),
        ),
    log:
        driving.log("lift_alignment"),
    benchmark:
        driving.benchmark("lift_alignment")
    conda:
        "../envs/core.yaml"
    threads: driving.threads("lift_alignment")
    resources:
        **driving.resources("lift_alignment"),
    params:
        index=path_of(driving.tiny),
        data_root=path_of(driving.data),
        data=driving.alignment_digest,
        clips=driving.clips,
        flags=driving.alignment_flags,
        code=driving.code("lift_alignment"),
        out=subpath(output.facts, parent=True),
    shell:
        "exec python -m splatdag.driving.checks.lift_alignment --index-path {params.index:q}"
        " --data-root {params.data_root:q} --out-dir {params.out:q} --threads {threads}"
        " --run-id driving/logs/lift_alignment --log {log:q} {params.flags:q}"


rule voxelization:
    """Sort the points of one clip into the network's voxels, count them and draw a map."""
    input:
        logs=made(driving.data),
        index=made(driving.tiny),
    output:
        facts=driving.output("voxelization", clip=VOXELIZED),
        map=f"<results>/driving/voxelization/{VOXELIZED}/bev_xy.png",
    log:
        driving.log("voxelization"),
    benchmark:
        driving.benchmark("voxelization")
    conda:
        "../envs/core.yaml"
    threads: driving.threads("voxelization")
    resources:
        **driving.resources("voxelization"),
    params:
        index=path_of(driving.tiny),
        data_root=path_of(driving.data),
        data=driving.clips_digest,
        clips=driving.clips,
        flags=driving.voxelization_flags,
        code=driving.code("voxelization"),
        out=subpath(output.facts, parent=True),
    shell:
        "exec python -m splatdag.driving.checks.voxelization --index-path {params.index:q}"
        " --data-root {params.data_root:q} --out-json {output.facts:q} --out-dir {params.out:q} --threads {threads}"
        " --run-id driving/logs/voxelization --log {log:q} {params.flags:q}"


rule lift_log:
    """Lift the frames of one log that clips of the index are given, for trainings; the receipt says what is kept."""
    input:
        logs=made(driving.data),
        index=made(driving.index_of_log),
    output:
        receipt=driving.output("lift_log"),
    log:
        driving.log("lift_log"),
    benchmark:
        driving.benchmark("lift_log")
    conda:
        "../envs/core.yaml"
    threads: driving.threads("lift_log")
    resources:
        **driving.resources("lift_log"),
    params:
        index=path_of(driving.index_of_log),
        data_root=path_of(driving.data),
        data=driving.log_digest,
        clips=driving.clips_of_log,
        flags=driving.lift_flags,
        code=driving.code("lift_log"),
        folder=subpath(output.receipt, parent=True),
    shell:
        "exec python -m splatdag.driving.clips.lift_logs --index-path {params.index:q} --data-root {params.data_root:q}"
        " --scene {wildcards.scene:q} --folder {params.folder:q} --receipt {output.receipt:q} --threads {threads}"
        " --run-id driving/logs/lift --log {log:q} {params.flags:q}"


rule record_drive:
    """Record the measured clips of a driving log: lidar, Gaussians, camera, velocities and pictures."""
    input:
        measured=driving.recorded,
    output:
        recording=driving.output("record_drive"),
    log:
        driving.log("record_drive"),
    benchmark:
        driving.benchmark("record_drive")
    wildcard_constraints:
        run=NAME,
    conda:
        "../envs/core.yaml"
    threads: driving.threads("record_drive")
    resources:
        **driving.resources("record_drive"),
    params:
        run_id=driving.run_id,
        flags=driving.record_flags,
        sample=driving.sample,
        code=driving.code("record_drive"),
        log_dir=subpath(output.recording, ancestor=2),
    shell:
        "exec python -m splatdag.driving.record_drive --log-dir {params.log_dir:q} --out {output.recording:q}"
        " --sample={params.sample:q} --threads {threads} --run-id {params.run_id:q} --log {log:q} {params.flags:q}"
