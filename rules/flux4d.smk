"""Flux4D: clips of driving logs to Gaussians that move.

Needs the index and lifted frames that driving.smk makes, or an index of one's own (config: driving.index_path). Makes below
results/driving, or as the config names them, the runs overfit/, of one clip, and flux4d/, of many; flux4d/<log>/ has what was
measured of each log, overfit/flow/ how the clip moves.
"""


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
        data_root=folder_of("logs"),
        data=overfit_digest,
        index=index_digest,
        flags=flags(CONFIG.driving.overfit),
        code=code_digest("driving.training.overfit"),
        run=subpath(output.manifest, parent=True),
        cache=f"{RESULTS}/driving/lift",
    shell:
        "exec python -m splatdag.driving.training.overfit --index-path {input.index:q} --data-root {params.data_root:q}"
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
        data_root=folder_of("logs"),
        data=overfit_digest,
        index=index_digest,
        flags=flags(CONFIG.driving.flow),
        code=code_digest("driving.evaluation.flow"),
        run=subpath(input.ckpt, parent=True),
        name=CONFIG.driving.ckpt,
        cache=f"{RESULTS}/driving/lift",
    shell:
        "exec python -m splatdag.driving.evaluation.flow --index-path {input.index:q} --data-root {params.data_root:q}"
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
        data_root=folder_of("logs"),
        data=training_logs_digest,
        index=index_digest,
        flags=flags(CONFIG.driving.train),
        code=code_digest("driving.training.train"),
        run=subpath(output.meta, parent=True),
        cache=f"{RESULTS}/driving/lift",
    shell:
        "exec python -m splatdag.driving.training.train --index-path {input.index:q} --data-root {params.data_root:q}"
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
        data_root=folder_of("logs"),
        data=measured_digest,
        index=index_digest,
        flags=flags(CONFIG.driving.evaluate),
        code=code_digest("driving.evaluation.evaluate"),
        run=subpath(input.ckpt, parent=True),
        out=subpath(output.measured, parent=True),
        name=CONFIG.driving.ckpt,
        cache=subpath(input.points, parent=True),
    shell:
        "exec python -m splatdag.driving.evaluation.evaluate --index-path {input.index:q} --data-root {params.data_root:q}"
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
        code=code_digest("driving.evaluation.merge"),
        run=subpath(output.manifest, parent=True),
        name=CONFIG.driving.ckpt,
    shell:
        "exec python -m splatdag.driving.evaluation.merge --run-dir {params.run:q} --ckpt {params.run:q}/{params.name}"
        " --index-path {input.index:q} --threads {threads} --log {log:q} --scenes {params.scenes:q}"
