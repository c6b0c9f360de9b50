"""Recordings for the Rerun viewer.

Needs runs: those of the captures in the sheet and of driving, which are made where they are missing, and what the human trainer
left below the folder that the config names (sharing.results_root). Makes rerun/*.rrd in the folder of each run.
"""


rule recordings:
    """A recording of every run: of captures, of driving logs, and of each task and epoch of the human trainer's."""
    input:
        recording_files,


rule record_capture:
    """Record a capture's run: cameras, Gaussians, held-out views, loss and PSNR."""
    input:
        points=rules.pose_capture.output.points,
        manifest=rules.train_capture.output.manifest,
    output:
        recording="<results>/captures/{capture}/{variant}/rerun/capture.rrd",
    log:
        "<logs>/captures/{capture}/{variant}/recording.log",
    benchmark:
        "<benchmarks>/captures/{capture}/{variant}/recording.tsv"
    conda:
        "../envs/core.yaml"
    threads: 2
    resources:
        **site("cpu", mem_mb=4_000, runtime=30),
    params:
        flags=flags(CONFIG.sharing.recordings),
        code=code_digest("captures.record_capture"),
        run=subpath(input.manifest, parent=True),
    shell:
        "exec python -m splatdag.captures.record_capture --run-dir {params.run:q} --model {input.points:q}"
        " --out {output.recording:q} --threads {threads} --log {log:q} {params.flags:q}"


rule record_drive:
    """Record the measured clips of a driving log: lidar, Gaussians, camera, velocities and pictures."""
    input:
        measured="<results>/driving/{run}/{scene}/metrics.json",
    output:
        recording="<results>/driving/{run}/{scene}/rerun/driving.rrd",
    log:
        "<logs>/driving/{run}/{scene}/recording.log",
    benchmark:
        "<benchmarks>/driving/{run}/{scene}/recording.tsv"
    wildcard_constraints:
        run=NAME,
    conda:
        "../envs/core.yaml"
    threads: 2
    resources:
        **site("cpu", mem_mb=8_000, runtime=60),
    params:
        flags=flags(CONFIG.sharing.recordings),
        code=code_digest("driving.record_drive"),
        log_dir=subpath(input.measured, parent=True),
    shell:
        "exec python -m splatdag.driving.record_drive --log-dir {params.log_dir:q} --out {output.recording:q}"
        " --threads {threads} --log {log:q} {params.flags:q}"


rule record_epoch:
    """Record one task of one epoch of a run of the human trainer."""
    input:
        run=human_run,
    output:
        recording=f"{HUMANS.root}/{{scene}}/{{exp}}/rerun/{{recording}}_{{epoch}}.rrd",
    log:
        "<logs>/humans/{scene}/{exp}/{recording}_{epoch}.log",
    benchmark:
        "<benchmarks>/humans/{scene}/{exp}/{recording}_{epoch}.tsv"
    wildcard_constraints:
        scene=NAME,
        exp=NAME,
        recording="|".join(TASK_OF),
        epoch=r"epoch_\d+",
    conda:
        "../envs/core.yaml"
    threads: 2
    resources:
        **site("cpu", mem_mb=4_000, runtime=60),
    params:
        data=human_digest,
        task=human_task,
        flags=flags(only(CONFIG.sharing.recordings, RecordingOptions)),
        code=code_digest("humans.record_epoch"),
        run=f"{HUMANS.root}/{{scene}}/{{exp}}",
        scenes=HUMANS.scenes_dir,
    shell:
        "exec python -m splatdag.humans.record_epoch --run-dir {params.run:q} --task {params.task}"
        " --epoch {wildcards.epoch} --scenes-dir {params.scenes:q} --out {output.recording:q} --threads {threads}"
        " --log {log:q} {params.flags:q}"
