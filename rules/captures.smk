"""Captures: photos of a static scene to an evaluated splat.

Needs a folder of photos or a COLMAP dataset for every row of the sheet (config: captures.sheet).
Makes results/captures/<capture>/sparse/0 (the poses, as a COLMAP model) and results/captures/<capture>/single (the run).
"""


rule captures:
    """Posed, trained and evaluated splats of all captures in the sheet."""
    input:
        expand("<results>/captures/{capture}/single/manifest.json", capture=CAPTURES),


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
    threads: 2
    resources:
        **site("cpu"),
        mem_mb=scaled(8_000),
        runtime=scaled(240),
    params:
        data=capture_digest,
        flags=pose_flags,
        code=code_digest("captures.pose"),
    shell:
        "exec python -m splatdag.captures.pose --data-dir {input.data:q} --report {output.report:q}"
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
    threads: 2
    resources:
        **site("any"),
        gpu=1,
        mem_mb=scaled(32_000),
        runtime=scaled(720),
    params:
        data=capture_digest,
        flags=train_flags,
        code=code_digest("captures.train"),
        run=f"{RESULTS}/captures/{{capture}}/{{variant}}",
    shell:
        "exec python -m splatdag.captures.train --data-dir {input.data:q} --model {input.points:q}"
        " --result-dir {params.run:q} --device-count {resources.gpu} --threads {threads} --log {log:q} {params.flags:q}"
