"""Driving: PandaSet's logs to clips, checked and lifted; flux4d.smk trains on them.

Needs a folder of logs (config: driving.data_root), in PandaSet's layout. Makes below results/driving
- index/: which frames of which logs are given and which are predicted, of all logs and of a few (tiny), as pickle and
  as JSON lines, and report.json, which says what was left out and why
- check/: report.json, report.txt and a picture of each log, of all that can be measured
- lift_alignment/<clip>/ and voxelization/<clip>/: pictures and figures of one clip of the index
- lift/: lidar points of frames with their colours, kept for trainings
"""


rule driving:
    """The clips of all driving logs, a run on one of them with pictures of its motion, and a run on all, measured."""
    input:
        DRIVING_FILES,


rule index_pandaset:
    """Cut clips from all driving logs, and from a few; only lists of poses and times and names of files are read."""
    input:
        logs=driving_data,
    output:
        full=INDEX_FULL,
        full_lines=lines_of(INDEX_FULL),
        tiny=INDEX_TINY,
        tiny_lines=lines_of(INDEX_TINY),
        report="<results>/driving/index/report.json",
    log:
        "<logs>/driving/index.log",
    benchmark:
        "<benchmarks>/driving/index.tsv"
    conda:
        "../envs/core.yaml"
    threads: 2
    resources:
        **site("cpu", mem_mb=2_000, runtime=30, area="driving"),
    params:
        data_root=folder_of("logs"),
        data=lists_digest,
        flags=flags(CONFIG.driving.index),
        code=code_digest("driving.clips.index"),
    shell:
        "exec python -m splatdag.driving.clips.index --data-root {params.data_root:q} --out-full {output.full:q}"
        " --out-tiny {output.tiny:q} --report {output.report:q} --threads {threads} --log {log:q} {params.flags:q}"


rule check_pandaset:
    """Measure and draw what the driving logs hold: lengths, clocks, frames, lidars, projection, boxes."""
    input:
        logs=checked_data,
    output:
        report="<results>/driving/check/report.json",
        table="<results>/driving/check/report.txt",
        pictures=expand("<results>/driving/check/{scene}.jpg", scene=CHECKED_LOGS),
    log:
        "<logs>/driving/check.log",
    benchmark:
        "<benchmarks>/driving/check.tsv"
    conda:
        "../envs/core.yaml"
    threads: 2
    resources:
        **site("cpu", mem_mb=4_000, runtime=120, area="driving"),
    params:
        data_root=folder_of("logs"),
        data=checked_digest,
        flags=flags(CONFIG.driving.check),
        code=code_digest("driving.checks.check"),
        out=subpath(output.report, parent=True),
    shell:
        "exec python -m splatdag.driving.checks.check --data-root {params.data_root:q} --out-dir {params.out:q}"
        " --threads {threads} --log {log:q} {params.flags:q}"


rule lift_alignment:
    """Draw the lidar points of one frame over its image, and maps of them: whether lidar, poses and cameras fit."""
    input:
        logs=driving_data,
        index=index_or(INDEX_TINY),
    output:
        facts=f"<results>/driving/lift_alignment/{CONFIG.driving.alignment.clip_index}/alignment.json",
        pictures=expand(
            f"<results>/driving/lift_alignment/{CONFIG.driving.alignment.clip_index}/{{picture}}",
            picture=alignment_files(CONFIG.driving.alignment),
        ),
    log:
        "<logs>/driving/lift_alignment.log",
    benchmark:
        "<benchmarks>/driving/lift_alignment.tsv"
    conda:
        "../envs/core.yaml"
    threads: 2
    resources:
        **site("cpu", mem_mb=4_000, runtime=15, area="driving"),
    params:
        data_root=folder_of("logs"),
        data=alignment_digest,
        index=index_digest,
        flags=flags(CONFIG.driving.alignment),
        code=code_digest("driving.checks.lift_alignment"),
        out=subpath(output.facts, parent=True),
    shell:
        "exec python -m splatdag.driving.checks.lift_alignment --index-path {input.index:q} --data-root {params.data_root:q}"
        " --out-dir {params.out:q} --threads {threads} --log {log:q} {params.flags:q}"


rule voxelization:
    """Sort the points of one clip into the network's voxels, count them and draw a map."""
    input:
        logs=driving_data,
        index=index_or(INDEX_TINY),
    output:
        facts=f"<results>/driving/voxelization/{CONFIG.driving.voxelization.clip_index}/voxelization.json",
        map=f"<results>/driving/voxelization/{CONFIG.driving.voxelization.clip_index}/bev_xy.png",
    log:
        "<logs>/driving/voxelization.log",
    benchmark:
        "<benchmarks>/driving/voxelization.tsv"
    conda:
        "../envs/core.yaml"
    threads: 2
    resources:
        **site("cpu", mem_mb=8_000, runtime=30, area="driving"),
    params:
        data_root=folder_of("logs"),
        data=clips_digest,
        index=index_digest,
        flags=flags(CONFIG.driving.voxelization),
        code=code_digest("driving.checks.voxelization"),
        out=subpath(output.facts, parent=True),
    shell:
        "exec python -m splatdag.driving.checks.voxelization --index-path {input.index:q} --data-root {params.data_root:q}"
        " --out-json {output.facts:q} --out-dir {params.out:q} --threads {threads} --log {log:q} {params.flags:q}"


rule lift_log:
    """Lift the frames of one log that clips of the index are given, for trainings; the receipt says what is kept."""
    input:
        logs=driving_data,
        index=index_or(INDEX_FULL),
    output:
        receipt="<results>/driving/lift/{scene}.json",
    log:
        "<logs>/driving/lift/{scene}.log",
    benchmark:
        "<benchmarks>/driving/lift/{scene}.tsv"
    conda:
        "../envs/core.yaml"
    threads: 2
    resources:
        **site("cpu", mem_mb=4_000, runtime=60, area="driving"),
    params:
        data_root=folder_of("logs"),
        data=log_digest,
        index=index_digest,
        flags=flags(only(CONFIG.driving.train, LiftOptions)),
        code=code_digest("driving.clips.lift_logs"),
        folder=subpath(output.receipt, parent=True),
    shell:
        "exec python -m splatdag.driving.clips.lift_logs --index-path {input.index:q} --data-root {params.data_root:q}"
        " --scene {wildcards.scene:q} --folder {params.folder:q} --receipt {output.receipt:q} --threads {threads}"
        " --log {log:q} {params.flags:q}"
