"""People: recordings of what the human trainer left.

Needs its results tree, <scene>/<experiment>/ (config: sharing.results_root). Makes rerun/*.rrd in the folder of
each run, or the like below sharing.output_dir.
"""

from splatdag.humans.area import TASK_OF, recorded_root, results_root

humans = RULES["humans"]
HUMANS_ROOT = results_root(CONFIG.sharing, RESULTS)
RECORDED_ROOT = recorded_root(CONFIG.sharing, RESULTS)


rule record_epoch:
    """Record one task of one epoch of a run of the human trainer."""
    input:
        run=made(humans.run),
    output:
        recording=f"{RECORDED_ROOT}/{{scene}}/{{exp}}/rerun/{{recording}}_{{epoch}}.rrd",
    log:
        humans.log("record_epoch"),
    benchmark:
        humans.benchmark("record_epoch")
    wildcard_constraints:
        scene=NAME,
        exp=NAME,
        recording="|".join(TASK_OF),
        epoch=r"epoch_\d+",
    conda:
        "../envs/core.yaml"
    threads: humans.threads("record_epoch")
    resources:
        **humans.resources("record_epoch"),
    params:
        data=humans.digest,
        task=humans.task,
        flags=humans.record_flags,
        sample=humans.sample,
        code=humans.code("record_epoch"),
        run=f"{HUMANS_ROOT}/{{scene}}/{{exp}}",
        scenes=humans.scenes,
    shell:
        "exec python -m splatdag.humans.record_epoch --run-dir {params.run:q} --task {params.task}"
        " --epoch {wildcards.epoch} --scenes-dir {params.scenes:q} --out {output.recording:q} --sample={params.sample:q}"
        " --threads {threads} --run-id humans/{wildcards.scene}/{wildcards.exp} --log {log:q} {params.flags:q}"
