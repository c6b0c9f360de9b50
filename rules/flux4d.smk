"""Flux4D: clips of driving logs to Gaussians that move.

Needs the index and lifted frames that driving.smk makes, or an index of one's own (config: driving.index_path). Makes
results/driving/<run>/ for every run of the config: driving.overfits, each on one clip, driving.runs, each on many, and
driving.ckpts, evaluations of checkpoint files from anywhere; <run>/<log>/ has what was measured of each log, <run>/flow/ how
a clip moves.
"""

from splatdag.workflow.sheets import any_of

CLIP_RUN = any_of(CONFIG.driving.overfits)
LOGS_RUN = any_of(CONFIG.driving.runs)
MEASURED_RUN = any_of([*CONFIG.driving.runs, *CONFIG.driving.ckpts])
ANY_RUN = any_of([*CONFIG.driving.overfits, *CONFIG.driving.runs, *CONFIG.driving.ckpts])


localrules:
    link_ckpt,


rule flux4d:
    """Train Flux4D on many driving logs and measure it on logs that it has not seen."""
    input:
        driving.target("flux4d"),


rule flux4d_overfit:
    """Train Flux4D on one clip of the tiny index and measure it on the same: does the whole chain learn?"""
    input:
        driving.target("flux4d_overfit"),


rule flux4d_ckpts:
    """Measure checkpoint files of Flux4D, wherever they come from, on the logs to measure on."""
    input:
        driving.target("flux4d_ckpts"),


rule flux4d_flow:
    """Draw how a clip's Gaussians move in the image: what stands still must not."""
    input:
        driving.target("flux4d_flow"),


rule overfit_flux4d:
    """Train Flux4D on one clip and measure it on the same; resumes after a kill."""
    input:
        logs=made(driving.data),
        index=made(driving.tiny),
    output:
        ckpt="<results>/driving/{overfit}/ckpt_last.pt",
        meta="<results>/driving/{overfit}/meta.json",
        curves="<results>/driving/{overfit}/curves.png",
        metrics="<results>/driving/{overfit}/metrics.json",
        preview="<results>/driving/{overfit}/preview.jpg",
        manifest=driving.output("overfit_flux4d"),
    log:
        driving.log("overfit_flux4d"),
    benchmark:
        driving.benchmark("overfit_flux4d")
    wildcard_constraints:
        overfit=CLIP_RUN,
    conda:
        "../envs/core.yaml"
    threads: driving.threads("overfit_flux4d")
    resources:
        **driving.resources("overfit_flux4d"),
    params:
        index=path_of(driving.tiny),
        data_root=path_of(driving.data),
        data=driving.overfit_digest,
        clips=driving.clips,
        sample=driving.sample,
        run_id=driving.run_id,
        flags=driving.overfit_flags,
        code=driving.code("overfit_flux4d"),
        run=subpath(output.manifest, parent=True),
        cache=f"{RESULTS}/driving/lift",
    shell:
        "exec python -m splatdag.driving.training.overfit --index-path {params.index:q}"
        " --data-root {params.data_root:q} --output-dir {params.run:q} --run-id {params.run_id:q}"
        " --sample={params.sample:q} --cache-dir {params.cache:q} --device-count {resources.devices}"
        " --gpu-class {resources.gpu_class} --threads {threads} --log {log:q} {params.flags:q}"


rule draw_flow:
    """Draw how the Gaussians of a run's clip move in the image."""
    input:
        logs=made(driving.data),
        index=made(driving.flow_index),
        ckpt=made(driving.measured_ckpt),
    output:
        summary=driving.output("draw_flow"),
    log:
        driving.log("draw_flow"),
    benchmark:
        driving.benchmark("draw_flow")
    wildcard_constraints:
        run=ANY_RUN,
    conda:
        "../envs/core.yaml"
    threads: driving.threads("draw_flow")
    resources:
        **driving.resources("draw_flow"),
    params:
        run_id=driving.run_id,
        index=path_of(driving.flow_index),
        data_root=path_of(driving.data),
        data=driving.flow_digest,
        clips=driving.clips,
        flags=driving.flow_flags,
        code=driving.code("draw_flow"),
        ckpt=driving.ckpt_file,
        ckpt_digest=driving.ckpt_digest,
        out=subpath(output.summary, parent=True),
        cache=f"{RESULTS}/driving/lift",
    shell:
        "exec python -m splatdag.driving.evaluation.flow --index-path {params.index:q} --data-root {params.data_root:q}"
        " --ckpt {params.ckpt:q} --out-dir {params.out:q} --cache-dir {params.cache:q}"
        " --device-count {resources.devices} --gpu-class {resources.gpu_class} --threads {threads}"
        " --run-id {params.run_id:q} --log {log:q}"
        " {params.flags:q}"


rule train_flux4d:
    """Train Flux4D on the clips of all logs but those to measure on; resumes after a kill."""
    input:
        logs=made(driving.data),
        index=made(driving.training_index),
        points=driving.training_points,
    output:
        ckpt="<results>/driving/{run}/ckpt_last.pt",
        curves="<results>/driving/{run}/curves.png",
        meta=driving.output("train_flux4d"),
    log:
        driving.log("train_flux4d"),
    benchmark:
        driving.benchmark("train_flux4d")
    wildcard_constraints:
        run=LOGS_RUN,
    conda:
        "../envs/core.yaml"
    threads: driving.threads("train_flux4d")
    resources:
        **driving.resources("train_flux4d"),
    params:
        index=path_of(driving.training_index),
        data_root=path_of(driving.data),
        data=driving.training_digest,
        clips=driving.training_clips,
        sample=driving.sample,
        run_id=driving.run_id,
        flags=driving.train_flags,
        code=driving.code("train_flux4d"),
        run=subpath(output.meta, parent=True),
        cache=f"{RESULTS}/driving/lift",
    shell:
        "exec python -m splatdag.driving.training.train --index-path {params.index:q} --data-root {params.data_root:q}"
        " --output-dir {params.run:q} --run-id {params.run_id:q} --sample={params.sample:q}"
        " --cache-dir {params.cache:q} --device-count {resources.devices} --gpu-class {resources.gpu_class}"
        " --threads {threads} --log {log:q} {params.flags:q}"


rule evaluate_flux4d:
    """Measure a run of Flux4D on the test clips of one log."""
    input:
        logs=made(driving.data),
        index=made(driving.test_index),
        points=rules.lift_log.output.receipt,
        ckpt=made(driving.measured_ckpt),
    output:
        measured=driving.output("evaluate_flux4d"),
    log:
        driving.log("evaluate_flux4d"),
    benchmark:
        driving.benchmark("evaluate_flux4d")
    wildcard_constraints:
        run=MEASURED_RUN,
    conda:
        "../envs/core.yaml"
    threads: driving.threads("evaluate_flux4d")
    resources:
        **driving.resources("evaluate_flux4d"),
    params:
        run_id=driving.run_id,
        index=path_of(driving.test_index),
        data_root=path_of(driving.data),
        data=driving.measured_digest,
        clips=driving.measured_clips,
        flags=driving.evaluate_flags,
        code=driving.code("evaluate_flux4d"),
        ckpt=driving.ckpt_file,
        ckpt_digest=driving.ckpt_digest,
        sample=driving.sample,
        out=subpath(output.measured, parent=True),
        cache=subpath(input.points, parent=True),
    shell:
        "exec python -m splatdag.driving.evaluation.evaluate --index-path {params.index:q}"
        " --data-root {params.data_root:q} --ckpt {params.ckpt:q} --scene {wildcards.scene:q}"
        " --out-dir {params.out:q} --sample={params.sample:q} --cache-dir {params.cache:q}"
        " --device-count {resources.devices} --gpu-class {resources.gpu_class} --threads {threads}"
        " --run-id {params.run_id:q} --log {log:q}"
        " {params.flags:q}"


rule merge_flux4d:
    """Make one run of what was measured of its logs."""
    input:
        index=made(driving.test_index),
        of_run=driving.merged_with,
        measured=driving.measured_rows,
    output:
        metrics="<results>/driving/{run}/metrics.json",
        preview="<results>/driving/{run}/preview.jpg",
        manifest=driving.output("merge_flux4d"),
    log:
        driving.log("merge_flux4d"),
    wildcard_constraints:
        run=MEASURED_RUN,
    conda:
        "../envs/core.yaml"
    threads: driving.threads("merge_flux4d")
    resources:
        **driving.resources("merge_flux4d"),
    params:
        index=path_of(driving.test_index),
        scenes=driving.measured_logs,
        code=driving.code("merge_flux4d"),
        run=subpath(output.manifest, parent=True),
        ckpt=driving.ckpt_file,
        sample=driving.sample,
        run_id=driving.run_id,
    shell:
        "exec python -m splatdag.driving.evaluation.merge --run-dir {params.run:q} --ckpt {params.ckpt:q}"
        " --run-id {params.run_id:q} --sample={params.sample:q} --index-path {params.index:q} --threads {threads}"
        " --log {log:q}"
        " --scenes {params.scenes:q}"


rule link_ckpt:
    """Let the evaluation of a checkpoint appear where the config wants it too (out_dir), as a link."""
    input:
        manifest=rules.merge_flux4d.output.manifest,
    output:
        receipt=driving.output("link_ckpt"),
    log:
        driving.log("link_ckpt"),
    wildcard_constraints:
        run=any_of(CONFIG.driving.ckpts),
    conda:
        "../envs/core.yaml"
    params:
        run_id=driving.run_id,
        link=driving.ckpt_link,
        run=subpath(input.manifest, parent=True),
    shell:
        "exec python -m splatdag.workflow.link --run-dir {params.run:q} --link {params.link:q}"
        " --receipt {output.receipt:q} --run-id {params.run_id:q} --log {log:q}"
