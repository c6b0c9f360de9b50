"""Driving: PandaSet's logs to Gaussians that move (Flux4D).

Needs a folder of logs (config: driving.data_root), in PandaSet's layout. Makes below results/driving
- index/: which frames of which logs are given and which are predicted, of all logs and of a few (tiny), as pickle and
  as JSON lines, and report.json, which says what was left out and why
- check/: report.json, report.txt and a picture of each log, of all that can be measured
- lift_alignment/<clip>/ and voxelization/<clip>/: pictures and figures of one clip of the index
- lift/: lidar points of frames with their colours, kept for trainings
- overfit/ and flux4d/ (or as the config names them): runs, of one clip and of many; flux4d/<log>/ has what was
  measured of each log, overfit/flow/ how the clip moves
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
        data=lists_digest,
        flags=flags(CONFIG.driving.index),
        code=code_digest("driving.index"),
    shell:
        "exec python -m splatdag.driving.index --data-root {input.logs:q} --out-full {output.full:q}"
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
        data=checked_digest,
        flags=flags(CONFIG.driving.check),
        code=code_digest("driving.check"),
        out=subpath(output.report, parent=True),
    shell:
        "exec python -m splatdag.driving.check --data-root {input.logs:q} --out-dir {params.out:q} --threads {threads}"
        " --log {log:q} {params.flags:q}"


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
        data=alignment_digest,
        index=index_digest,
        flags=flags(CONFIG.driving.alignment),
        code=code_digest("driving.lift_alignment"),
        out=subpath(output.facts, parent=True),
    shell:
        "exec python -m splatdag.driving.lift_alignment --index-path {input.index:q} --data-root {input.logs:q}"
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
        data=clips_digest,
        index=index_digest,
        flags=flags(CONFIG.driving.voxelization),
        code=code_digest("driving.voxelization"),
        out=subpath(output.facts, parent=True),
    shell:
        "exec python -m splatdag.driving.voxelization --index-path {input.index:q} --data-root {input.logs:q}"
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
        data=log_digest,
        index=index_digest,
        flags=flags(only(CONFIG.driving.train, LiftOptions)),
        code=code_digest("driving.lift_logs"),
        folder=subpath(output.receipt, parent=True),
    shell:
        "exec python -m splatdag.driving.lift_logs --index-path {input.index:q} --data-root {input.logs:q}"
        " --scene {wildcards.scene:q} --folder {params.folder:q} --receipt {output.receipt:q} --threads {threads}"
        " --log {log:q} {params.flags:q}"


rule flux4d_overfit:
    """Train Flux4D on one clip of the tiny index and measure it on the same: does the whole chain learn?"""
    input:
        logs=driving_data,
        index=index_or(INDEX_TINY),
    output:
        ckpt=f"{OVERFIT_RUN}/ckpt_last.pt",
        meta=f"{OVERFIT_RUN}/meta.json",
        curves=f"{OVERFIT_RUN}/curves.png",
        metrics=f"{OVERFIT_RUN}/metrics.json",
        preview=f"{OVERFIT_RUN}/preview.jpg",
        measured=f"{OVERFIT_RUN}/{clip_folder(CONFIG.driving.overfit.clip_index)}/metrics.json",
        manifest=f"{OVERFIT_RUN}/manifest.json",
    log:
        f"<logs>/driving/{CONFIG.driving.overfit_run}/overfit.log",
    benchmark:
        f"<benchmarks>/driving/{CONFIG.driving.overfit_run}/overfit.tsv"
    conda:
        "../envs/core.yaml"
    threads: 2
    resources:
        **site("any", mem_mb=32_000, runtime=720, area="driving"),
    params:
        data=overfit_digest,
        index=index_digest,
        flags=flags(CONFIG.driving.overfit),
        code=code_digest("driving.overfit"),
        run=subpath(output.manifest, parent=True),
        cache=f"{RESULTS}/driving/lift",
    shell:
        "exec python -m splatdag.driving.overfit --index-path {input.index:q} --data-root {input.logs:q}"
        " --output-dir {params.run:q} --cache-dir {params.cache:q} --device-count {resources.devices}"
        " --gpu-class {resources.gpu_class} --threads {threads} --log {log:q} {params.flags:q}"


rule flux4d_flow:
    """Draw how a clip's Gaussians move in the image: what stands still must not."""
    input:
        logs=driving_data,
        index=index_or(INDEX_TINY),
        ckpt=f"{FLOW_RUN}/ckpt_last.pt",
    output:
        summary=f"{FLOW_RUN}/flow/summary.json",
    log:
        f"<logs>/driving/{CONFIG.driving.flow_run or CONFIG.driving.overfit_run}/flow.log",
    benchmark:
        f"<benchmarks>/driving/{CONFIG.driving.flow_run or CONFIG.driving.overfit_run}/flow.tsv"
    conda:
        "../envs/core.yaml"
    threads: 2
    resources:
        **site("any", mem_mb=16_000, runtime=60, area="driving"),
    params:
        data=overfit_digest,
        index=index_digest,
        flags=flags(CONFIG.driving.flow),
        code=code_digest("driving.flow"),
        run=subpath(input.ckpt, parent=True),
        name=CONFIG.driving.ckpt,
        cache=f"{RESULTS}/driving/lift",
    shell:
        "exec python -m splatdag.driving.flow --index-path {input.index:q} --data-root {input.logs:q}"
        " --ckpt {params.run:q}/{params.name} --out-dir {params.run:q}/flow --cache-dir {params.cache:q}"
        " --device-count {resources.devices} --gpu-class {resources.gpu_class} --threads {threads} --log {log:q}"
        " {params.flags:q}"


rule train_flux4d:
    """Train Flux4D on the clips of all logs but those to measure on; resumes after a kill."""
    input:
        logs=driving_data,
        index=index_or(INDEX_FULL),
        points=training_points,
    output:
        ckpt=f"{DRIVING_RUN}/ckpt_last.pt",
        curves=f"{DRIVING_RUN}/curves.png",
        meta=f"{DRIVING_RUN}/meta.json",
    log:
        f"<logs>/driving/{CONFIG.driving.run}/train.log",
    benchmark:
        f"<benchmarks>/driving/{CONFIG.driving.run}/train.tsv"
    conda:
        "../envs/core.yaml"
    threads: 8
    resources:
        **site("h100", mem_mb=48_000, runtime=720, area="driving", gpus=CONFIG.driving.gpus),
    params:
        data=training_logs_digest,
        index=index_digest,
        flags=flags(CONFIG.driving.train),
        code=code_digest("driving.train"),
        run=subpath(output.meta, parent=True),
        cache=f"{RESULTS}/driving/lift",
    shell:
        "exec python -m splatdag.driving.train --index-path {input.index:q} --data-root {input.logs:q}"
        " --output-dir {params.run:q} --cache-dir {params.cache:q} --device-count {resources.devices}"
        " --gpu-class {resources.gpu_class} --threads {threads} --log {log:q} {params.flags:q}"


rule evaluate_flux4d:
    """Measure a run of Flux4D on the test clips of one log."""
    input:
        logs=driving_data,
        index=index_or(INDEX_FULL),
        points="<results>/driving/lift/{scene}.json",
        ckpt=rules.train_flux4d.output.ckpt,
    output:
        measured=f"{DRIVING_RUN}/{{scene}}/metrics.json",
    log:
        f"<logs>/driving/{CONFIG.driving.run}/{{scene}}/evaluate.log",
    benchmark:
        f"<benchmarks>/driving/{CONFIG.driving.run}/{{scene}}/evaluate.tsv"
    conda:
        "../envs/core.yaml"
    threads: 2
    resources:
        **site("any", mem_mb=32_000, runtime=120, area="driving"),
    params:
        data=measured_digest,
        index=index_digest,
        flags=flags(CONFIG.driving.evaluate),
        code=code_digest("driving.evaluate"),
        run=subpath(input.ckpt, parent=True),
        out=subpath(output.measured, parent=True),
        name=CONFIG.driving.ckpt,
        cache=subpath(input.points, parent=True),
    shell:
        "exec python -m splatdag.driving.evaluate --index-path {input.index:q} --data-root {input.logs:q}"
        " --ckpt {params.run:q}/{params.name} --scene {wildcards.scene:q} --out-dir {params.out:q}"
        " --cache-dir {params.cache:q} --device-count {resources.devices} --gpu-class {resources.gpu_class}"
        " --threads {threads} --log {log:q} {params.flags:q}"


rule flux4d:
    """Train Flux4D on many driving logs and measure it on logs that it has not seen."""
    input:
        index=index_or(INDEX_FULL),
        meta=rules.train_flux4d.output.meta,
        measured=measured_rows,
    output:
        metrics=f"{DRIVING_RUN}/metrics.json",
        preview=f"{DRIVING_RUN}/preview.jpg",
        manifest=f"{DRIVING_RUN}/manifest.json",
    log:
        f"<logs>/driving/{CONFIG.driving.run}/merge.log",
    conda:
        "../envs/core.yaml"
    threads: 1
    resources:
        **site("cpu", mem_mb=2_000, runtime=15, area="driving"),
    params:
        scenes=measured_logs,
        code=code_digest("driving.merge"),
        run=subpath(output.manifest, parent=True),
        name=CONFIG.driving.ckpt,
    shell:
        "exec python -m splatdag.driving.merge --run-dir {params.run:q} --ckpt {params.run:q}/{params.name}"
        " --index-path {input.index:q} --threads {threads} --log {log:q} --scenes {params.scenes:q}"
