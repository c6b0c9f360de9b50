"""Upload: recordings and a page per scene, to the Hub or to a folder that looks like it.

Needs recordings, <run>/rerun/*.rrd, of runs of any area or of an older tree of results (config: sharing.results_root); for
the Hub, sharing.upload.repo_id and a token in the environment (HF_TOKEN), which reaches jobs on a cluster by the
environment alone. Makes results/hub, or commits to the Hub, and a receipt of what is where in results/sharing.
"""


rule upload:
    """Publish the recordings of all runs: on the Hub, or in results/hub while no repository is set; prints the plan."""
    input:
        upload_receipts,


rule upload_scene:
    """Publish one scene's recordings and page in one commit; what is there already is not sent again."""
    input:
        made=scene_made,
    output:
        **published(CONFIG.sharing.upload),
    log:
        "<logs>/sharing/{exp}/{scene}/upload.log",
    benchmark:
        "<benchmarks>/sharing/{exp}/{scene}/upload.tsv"
    conda:
        "../envs/core.yaml"
    threads: 2
    resources:
        **site("cpu", mem_mb=2_000, runtime=120),
        hf_commits=1,
    params:
        run=scene_run,
        recordings=scene_recordings,
        given=scene_given,
        hub=hub_folder,
        flags=upload_flags(),
        code=code_digest("hub.upload"),
    shell:
        "exec python -m splatdag.hub.upload --run-dir {params.run:q} --exp {wildcards.exp:q}"
        " --scene {wildcards.scene:q} --receipt {output.receipt:q} --hub-dir {params.hub:q}"
        " --recordings {params.recordings:q} --threads {threads} --log {log:q} {params.flags:q}"
