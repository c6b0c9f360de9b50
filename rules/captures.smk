"""Captures: photos or a video of a static scene to an evaluated splat.

Needs a folder of photos, a COLMAP dataset or a video for every row of the sheet (config: captures.sheet).
Makes results/captures/<capture>/sparse/0 (the poses, as a COLMAP model) and the runs beside it: single, which is as the
sheet says; combined, trained on all photos; filtered, trained on those that match. An existing COLMAP dataset that the
sheet names is evaluated in each run's eval_on_<name>. Recordings for the Rerun viewer are in each run's rerun/.
"""

from splatdag.captures.plan import VARIANTS
from splatdag.workflow.sheets import any_of

captures = RULES["captures"]
VARIANT = any_of(VARIANTS)
CKPT = any_of(CONFIG.captures.ckpts)


localrules:
    link_run,
    link_ckpt_evaluation,


rule captures:
    """Posed, trained and evaluated splats of all captures in the sheet."""
    input:
        captures.target("captures"),


rule captures_dual:
    """Two splats of each capture: of all its photos (combined), and of those with its match string (filtered)."""
    input:
        captures.target("captures_dual"),


rule captures_ckpts:
    """Files of splats, as of gsplat's simple_trainer, measured wherever they come from."""
    input:
        captures.target("captures_ckpts"),


rule extract_frames:
    """Take the sharpest photos from a capture's video."""
    input:
        video=made(captures.video),
    output:
        receipt=captures.output("extract_frames"),
    log:
        captures.log("extract_frames"),
    benchmark:
        captures.benchmark("extract_frames")
    conda:
        "../envs/core.yaml"
    threads: captures.threads("extract_frames")
    resources:
        **captures.resources("extract_frames"),
    params:
        video=path_of(captures.video),
        data=captures.video_digest,
        flags=captures.frames_flags,
        code=captures.code("extract_frames"),
        out=subpath(output.receipt, parent=True),
    shell:
        "exec python -m splatdag.captures.frames --video {params.video:q} --out {params.out:q}"
        " --threads {threads} --run-id captures/{wildcards.capture}/ --log {log:q} {params.flags:q}"


rule pose_capture:
    """Find the cameras of a capture's photos, or check the COLMAP model that comes with them."""
    input:
        data=made(captures.data),
    output:
        cameras="<results>/captures/{capture}/sparse/0/cameras.bin",
        images="<results>/captures/{capture}/sparse/0/images.bin",
        points="<results>/captures/{capture}/sparse/0/points3D.bin",
        text="<results>/captures/{capture}/registration.txt",
        report=captures.output("pose_capture"),
    log:
        captures.log("pose_capture"),
    benchmark:
        captures.benchmark("pose_capture")
    conda:
        "../envs/core.yaml"
    threads: captures.threads("pose_capture")
    resources:
        **captures.resources("pose_capture"),
    params:
        data=captures.photos_digest,
        data_dir=path_of(captures.data),
        flags=captures.pose_flags,
        code=captures.code("pose_capture"),
    shell:
        "exec python -m splatdag.captures.pose --data-dir {params.data_dir:q} --report {output.report:q}"
        " --threads {threads} --run-id captures/{wildcards.capture}/ --log {log:q} {params.flags:q}"


rule train_capture:
    """Train Gaussians on one posed capture; resumes after a kill."""
    input:
        data=made(captures.data),
        cameras=rules.pose_capture.output.cameras,
        images=rules.pose_capture.output.images,
        points=rules.pose_capture.output.points,
    output:
        splat="<results>/captures/{capture}/{variant}/splat.ply",
        metrics="<results>/captures/{capture}/{variant}/metrics.json",
        preview="<results>/captures/{capture}/{variant}/preview.jpg",
        curves="<results>/captures/{capture}/{variant}/curves.png",
        manifest=captures.output("train_capture"),
    log:
        captures.log("train_capture"),
    benchmark:
        captures.benchmark("train_capture")
    wildcard_constraints:
        variant=VARIANT,
    conda:
        "../envs/core.yaml"
    threads: captures.threads("train_capture")
    resources:
        **captures.resources("train_capture", times=captures.train_times),
        image_cache=captures.image_cache,
    params:
        data=captures.training_digest,
        split=captures.split_digest,
        data_dir=path_of(captures.data),
        sample=captures.sample,
        flags=captures.train_flags,
        code=captures.code("train_capture"),
        run=f"{RESULTS}/captures/{{capture}}/{{variant}}",
    shell:
        "exec python -m splatdag.scene.train --data-dir {params.data_dir:q} --model {input.points:q}"
        " --result-dir {params.run:q} --run-id captures/{wildcards.capture}/{wildcards.variant}"
        " --sample={params.sample:q} --device-count {resources.devices} --gpu-class {resources.gpu_class}"
        " --image-cache {resources.image_cache} --threads {threads} --log {log:q} {params.flags:q}"


rule evaluate_capture:
    """Evaluate a run on another COLMAP dataset of the same scene, in the same world frame."""
    input:
        data=made(captures.eval_data),
        manifest=rules.train_capture.output.manifest,
    output:
        metrics="<results>/captures/{capture}/{variant}/eval_on_{eval_name}/metrics.json",
        preview="<results>/captures/{capture}/{variant}/eval_on_{eval_name}/preview.jpg",
        manifest=captures.output("evaluate_capture"),
    log:
        captures.log("evaluate_capture"),
    benchmark:
        captures.benchmark("evaluate_capture")
    wildcard_constraints:
        variant=VARIANT,
    conda:
        "../envs/core.yaml"
    threads: captures.threads("evaluate_capture")
    resources:
        **captures.resources("evaluate_capture"),
    params:
        data=captures.eval_digest,
        data_dir=path_of(captures.eval_data),
        sample=captures.sample,
        flags=captures.eval_flags,
        code=captures.code("evaluate_capture"),
        run=subpath(input.manifest, parent=True),
    shell:
        "exec python -m splatdag.scene.evaluate --run {params.run:q} --data-dir {params.data_dir:q}"
        " --result-dir {params.run:q}/eval_on_{wildcards.eval_name:q}"
        " --run-id captures/{wildcards.capture}/{wildcards.variant}/eval_on_{wildcards.eval_name}"
        " --sample={params.sample:q} --device-count {resources.devices} --gpu-class {resources.gpu_class}"
        " --threads {threads} --log {log:q} {params.flags:q}"


rule evaluate_ckpt:
    """Evaluate a file of splats from anywhere: a checkpoint with those of its other ranks, or a PLY file."""
    input:
        data=made(captures.ckpt_data),
        splats=made(captures.ckpt_file),
        trained_on=made(captures.ckpt_trained_on),
    output:
        metrics="<results>/captures/{ckpt}/ckpt/metrics.json",
        preview="<results>/captures/{ckpt}/ckpt/preview.jpg",
        manifest=captures.output("evaluate_ckpt"),
    log:
        captures.log("evaluate_ckpt"),
    benchmark:
        captures.benchmark("evaluate_ckpt")
    wildcard_constraints:
        ckpt=CKPT,
    conda:
        "../envs/core.yaml"
    threads: captures.threads("evaluate_ckpt")
    resources:
        **captures.resources("evaluate_ckpt"),
    params:
        data=captures.ckpt_data_digest,
        data_dir=path_of(captures.ckpt_data),
        splats=path_of(captures.ckpt_file),
        digest=captures.ckpt_digest,
        trained_on=captures.ckpt_trained_on_digest,
        kind=captures.ckpt_kind,
        flags=captures.ckpt_flags,
        code=captures.code("evaluate_ckpt"),
        out=subpath(output.manifest, parent=True),
    shell:
        "exec python -m splatdag.scene.evaluate --{params.kind} {params.splats:q} --data-dir {params.data_dir:q}"
        " --result-dir {params.out:q} --run-id captures/{wildcards.ckpt}/ckpt --device-count {resources.devices}"
        " --gpu-class {resources.gpu_class} --threads {threads} --log {log:q} {params.flags:q}"


rule link_ckpt_evaluation:
    """Let the evaluation of a file of splats appear where the config wants it too (out_dir), as a link."""
    input:
        manifest=rules.evaluate_ckpt.output.manifest,
    output:
        receipt=captures.output("link_ckpt_evaluation"),
    log:
        captures.log("link_ckpt_evaluation"),
    wildcard_constraints:
        ckpt=CKPT,
    conda:
        "../envs/core.yaml"
    params:
        link=captures.ckpt_link,
        run=subpath(input.manifest, parent=True),
    shell:
        "exec python -m splatdag.workflow.link --run-dir {params.run:q} --link {params.link:q}"
        " --receipt {output.receipt:q} --run-id captures/{wildcards.ckpt}/ckpt --log {log:q}"


rule link_run:
    """Let a run appear where the sheet wants it too (column result_dir), as a link."""
    input:
        manifest=rules.train_capture.output.manifest,
    output:
        receipt=captures.output("link_run"),
    log:
        captures.log("link_run"),
    wildcard_constraints:
        variant=VARIANT,
    conda:
        "../envs/core.yaml"
    params:
        link=captures.result_link,
        run=subpath(input.manifest, parent=True),
    shell:
        "exec python -m splatdag.workflow.link --run-dir {params.run:q} --link {params.link:q}"
        " --receipt {output.receipt:q} --run-id captures/{wildcards.capture}/{wildcards.variant} --log {log:q}"


rule record_capture:
    """Record a capture's run: cameras, Gaussians, held-out views, loss and PSNR."""
    input:
        points=rules.pose_capture.output.points,
        manifest=rules.train_capture.output.manifest,
    output:
        recording=captures.output("record_capture"),
    log:
        captures.log("record_capture"),
    benchmark:
        captures.benchmark("record_capture")
    wildcard_constraints:
        variant=VARIANT,
    conda:
        "../envs/core.yaml"
    threads: captures.threads("record_capture")
    resources:
        **captures.resources("record_capture"),
    params:
        flags=captures.record_flags,
        sample=captures.sample,
        code=captures.code("record_capture"),
        run=subpath(input.manifest, parent=True),
    shell:
        "exec python -m splatdag.captures.record_capture --run-dir {params.run:q} --model {input.points:q}"
        " --out {output.recording:q} --sample={params.sample:q} --threads {threads}"
        " --run-id captures/{wildcards.capture}/{wildcards.variant} --log {log:q} {params.flags:q}"
