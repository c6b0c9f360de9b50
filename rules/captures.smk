"""Captures: photos or a video of a static scene to an evaluated splat.

Needs a folder of photos, a COLMAP dataset or a video for every row of the sheet (config: captures.sheet).
Makes results/captures/<capture>/sparse/0 (the poses, as a COLMAP model) and the runs beside it: single, which is as the
sheet says; combined, trained on all photos; filtered, trained on those that match. An existing COLMAP dataset that the
sheet names is evaluated in each run's eval_on_<name>.
"""


localrules:
    link_run,


rule captures:
    """Posed, trained and evaluated splats of all captures in the sheet."""
    input:
        lambda wildcards: single_runs(),


rule captures_dual:
    """Two splats of each capture: of all its photos (combined), and of those with its match string (filtered)."""
    input:
        lambda wildcards: dual_runs(),


rule extract_frames:
    """Take the sharpest photos from a capture's video."""
    input:
        video=video,
    output:
        receipt="<results>/captures/{capture}/images/frames.json",
    log:
        "<logs>/captures/{capture}/frames.log",
    benchmark:
        "<benchmarks>/captures/{capture}/frames.tsv"
    conda:
        "../envs/core.yaml"
    threads: of_row("frames", "threads", 2)
    resources:
        **site(
            "cpu",
            mem_mb=of_row("frames", "mem_mb", 4_000),
            runtime=of_row("frames", "runtime", 120),
            area="captures",
            share=1 / 3,
        ),
    params:
        data=video_digest,
        flags=frames_flags,
        code=code_digest("captures.frames"),
        out=subpath(output.receipt, parent=True),
    shell:
        "exec python -m splatdag.captures.frames --video {input.video:q} --out {params.out:q}"
        " --threads {threads} --log {log:q} {params.flags:q}"


rule pose_capture:
    """Find the cameras of a capture's photos, or check the COLMAP model that comes with them."""
    input:
        data=capture_data,
    output:
        cameras="<results>/captures/{capture}/sparse/0/cameras.bin",
        images="<results>/captures/{capture}/sparse/0/images.bin",
        points="<results>/captures/{capture}/sparse/0/points3D.bin",
        text="<results>/captures/{capture}/registration.txt",
        report="<results>/captures/{capture}/registration.json",
    log:
        "<logs>/captures/{capture}/pose.log",
    benchmark:
        "<benchmarks>/captures/{capture}/pose.tsv"
    conda:
        "../envs/core.yaml"
    threads: of_row("pose", "threads", 2)
    resources:
        **site(
            "cpu",
            mem_mb=of_row("pose", "mem_mb", 8_000),
            runtime=of_row("pose", "runtime", 240),
            area="captures",
            share=2 / 3,
        ),
    params:
        data=photos_digest,
        data_dir=folder_of("data"),
        flags=pose_flags,
        code=code_digest("captures.pose"),
    shell:
        "exec python -m splatdag.captures.pose --data-dir {params.data_dir:q} --report {output.report:q}"
        " --threads {threads} --log {log:q} {params.flags:q}"


rule train_capture:
    """Train Gaussians on one posed capture; resumes after a kill."""
    input:
        data=capture_data,
        cameras=rules.pose_capture.output.cameras,
        images=rules.pose_capture.output.images,
        points=rules.pose_capture.output.points,
    output:
        splat="<results>/captures/{capture}/{variant}/splat.ply",
        metrics="<results>/captures/{capture}/{variant}/metrics.json",
        preview="<results>/captures/{capture}/{variant}/preview.jpg",
        curves="<results>/captures/{capture}/{variant}/curves.png",
        manifest="<results>/captures/{capture}/{variant}/manifest.json",
    log:
        "<logs>/captures/{capture}/{variant}/train.log",
    benchmark:
        "<benchmarks>/captures/{capture}/{variant}/train.tsv"
    conda:
        "../envs/core.yaml"
    threads: of_row("train", "threads", 2)
    resources:
        **site(
            "any",
            mem_mb=of_row("train", "mem_mb", 32_000),
            runtime=of_row("train", "runtime", train_minutes),
            area="captures",
            gpus=of_row("train", "gpus", 1),
        ),
        image_cache=image_cache,
    params:
        data=training_digest,
        split=split_digest,
        data_dir=folder_of("data"),
        flags=train_flags,
        code=code_digest("scene.train"),
        run=f"{RESULTS}/captures/{{capture}}/{{variant}}",
    shell:
        "exec python -m splatdag.scene.train --data-dir {params.data_dir:q} --model {input.points:q}"
        " --result-dir {params.run:q} --device-count {resources.devices} --gpu-class {resources.gpu_class}"
        " --image-cache {resources.image_cache} --threads {threads} --log {log:q} {params.flags:q}"


rule evaluate_capture:
    """Evaluate a run on another COLMAP dataset of the same scene, in the same world frame."""
    input:
        data=eval_data,
        manifest=rules.train_capture.output.manifest,
    output:
        metrics="<results>/captures/{capture}/{variant}/eval_on_{eval_name}/metrics.json",
        preview="<results>/captures/{capture}/{variant}/eval_on_{eval_name}/preview.jpg",
        manifest="<results>/captures/{capture}/{variant}/eval_on_{eval_name}/manifest.json",
    log:
        "<logs>/captures/{capture}/{variant}/eval_on_{eval_name}/evaluate.log",
    benchmark:
        "<benchmarks>/captures/{capture}/{variant}/eval_on_{eval_name}/evaluate.tsv"
    conda:
        "../envs/core.yaml"
    threads: of_row("evaluate", "threads", 2)
    resources:
        **site(
            "any",
            mem_mb=of_row("evaluate", "mem_mb", 16_000),
            runtime=of_row("evaluate", "runtime", 120),
            area="captures",
        ),
    params:
        data=eval_digest,
        flags=eval_flags,
        code=code_digest("scene.evaluate"),
        run=subpath(input.manifest, parent=True),
    shell:
        "exec python -m splatdag.scene.evaluate --run {params.run:q} --data-dir {input.data:q}"
        " --result-dir {params.run:q}/eval_on_{wildcards.eval_name:q} --device-count {resources.devices}"
        " --gpu-class {resources.gpu_class} --threads {threads} --log {log:q} {params.flags:q}"


rule link_run:
    """Let the run `single` appear where the sheet wants it too (column result_dir), as a link."""
    input:
        manifest="<results>/captures/{capture}/single/manifest.json",
    output:
        receipt="<results>/captures/{capture}/result_dir.txt",
    log:
        "<logs>/captures/{capture}/link.log",
    conda:
        "../envs/core.yaml"
    params:
        link=result_link,
        run=subpath(input.manifest, parent=True),
    shell:
        "exec python -m splatdag.captures.link --run-dir {params.run:q} --link {params.link:q}"
        " --receipt {output.receipt:q} --log {log:q}"
