"""Sharing: recordings for the Rerun viewer of the runs of all areas, and their upload to the Hub or to a folder like it.

Needs runs of any area, or an older tree of results of people (config: sharing.results_root); for the Hub,
sharing.upload.repo_id and a token in the environment (HF_TOKEN), which reaches jobs on a cluster by the environment alone.
Makes, by the areas' own rules, rerun/*.rrd in the folder of each run that is there or asked for beside it; results/hub, or
commits to the Hub; and a receipt of what is where in results/sharing.
"""

from splatdag.hub.area import published

sharing = RULES["sharing"]


rule recordings:
    """A recording of every run that is there, or that is asked for in the same command, in every area."""
    input:
        sharing.target("recordings"),


rule upload:
    """Publish the recordings of all runs: on the Hub, or in results/hub while no repository is set; prints the plan."""
    input:
        sharing.target("upload"),


rule upload_scene:
    """Publish one scene's recordings and page in one commit; what is there already is not sent again."""
    input:
        made=sharing.scene_made,
    output:
        **{name: f"<results>/{file}" for name, file in published(CONFIG.sharing.upload.repo_id).items()},
    log:
        sharing.log("upload_scene"),
    benchmark:
        sharing.benchmark("upload_scene")
    conda:
        "../envs/core.yaml"
    threads: sharing.threads("upload_scene")
    resources:
        **sharing.resources("upload_scene"),
        hf_commits=1,
    params:
        run=sharing.scene_run,
        recordings=sharing.scene_recordings,
        given=sharing.scene_given,
        hub=sharing.hub_folder,
        sample=sharing.sample,
        flags=sharing.upload_flags,
        code=sharing.upload_code,
    shell:
        "exec python -m splatdag.hub.upload --run-dir {params.run:q} --exp {wildcards.exp:q}"
        " --scene {wildcards.scene:q} --receipt {output.receipt:q} --hub-dir {params.hub:q}"
        " --recordings {params.recordings:q} --sample={params.sample:q} --threads {threads}"
        " --run-id sharing/{wildcards.scene:q}/{wildcards.exp:q} --log {log:q}"
        " {params.flags:q}"
