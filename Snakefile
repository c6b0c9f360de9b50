"""splatdag: photos, images, driving logs and videos of people to Gaussian splats.

snakemake --list-target-rules lists what can be asked for; README.md says how.
"""

from snakemake.utils import min_version

min_version("9.27")


report: "report/workflow.rst"


include: "rules/common.smk"
include: "rules/house.smk"
include: "rules/captures.smk"
include: "rules/driving.smk"
include: "rules/flux4d.smk"
include: "rules/humans.smk"
include: "rules/sharing.smk"
include: "rules/runs.smk"


rule all:
    """Everything the config asks for, in every area; `captures_dual` is asked for by name."""
    default_target: True
    input:
        *area_rules.everything(RULES.values()),


onstart:
    with snakefile.one_line_errors():
        snakefile.check_slurm(workflow, SITE_FILE)
        snakefile.check_local_gpus(workflow)
        planned = {job.rule.name for job in workflow.dag.needrun_jobs()}
        check_installed(PLANS.backends(planned), planned)
        check_token(CONFIG.sharing.upload, planned)


# What ended well needs no state any more; after an error, what ended well in this run. The page of all runs is made anew
# after every run; a failure to do so is said, and costs no result.
onsuccess:
    remove_states(job.output for job in workflow.dag.jobs)
    shell(f"{REFRESH_COMPARISON} || true")


onerror:
    remove_states(job.output for job in workflow.dag.jobs if workflow.dag.finished(job))
    shell(f"{REFRESH_COMPARISON} || true")
