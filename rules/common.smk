"""What all areas share: the checked config, plans, site and profile. A wrong input stops here, before the DAG."""

import json
import shlex
import sys
from pathlib import Path

from splatdag.areas import AREAS, Plans, all_rules
from splatdag.config import notice_lines, notices, read_config
from splatdag.hub.targets import check_token
from splatdag.workflow import area_rules, snakefile
from splatdag.workflow.area import RECEIPT, Context, Own
from splatdag.workflow.backend import check_installed
from splatdag.workflow.code_digest import code_digest
from splatdag.workflow.digests import digest_of_files
from splatdag.workflow.hang_up import stop_on_hang_up
from splatdag.workflow.manifest import package_versions
from splatdag.workflow.options import flags
from splatdag.workflow.sheets import NAME
from splatdag.workflow.site import read_site
from splatdag.workflow.area_rules import for_every_job
from splatdag.workflow.states import remove_states
from splatdag.workflow.user_cache import COMPILED_WITH
from splatdag.workflow.yaml_text import check_config_file

HERE = Path(str(workflow.current_basedir)).parent  # ours, also as a module of another workflow

snakefile.prepare_environment()


with snakefile.one_line_errors():
    CONFIG_FILE = check_config_file(snakefile.config_file(HERE))


configfile: CONFIG_FILE


RESULTS, LOGS = workflow.pathvars.apply("<results>"), workflow.pathvars.apply("<logs>")
JOB_RULES = snakefile.job_rules(workflow, sys.argv[1:], all_rules())
BACKEND = snakefile.backend(workflow.global_resources)
SITE_FILE = snakefile.site_file(HERE)

with snakefile.one_line_errors():
    if workflow.is_main_process:
        stop_on_hang_up()
        snakefile.check_profile(sys.argv, workflow.main_snakefile)
        snakefile.prepare_slurm(sys.argv[1:], Path(workflow.workdir_init))
    snakefile.share_gpus(workflow.global_resources)
    SITE = read_site(SITE_FILE)
    snakefile.limit_commits(workflow.global_resources)
    snakefile.limit_areas(workflow.global_resources, AREAS)
    GIVEN = {key: value for key, value in config.items() if key != "pathvars"}
    ONE_CLASS = snakefile.set_gpu_classes(GIVEN, workflow.resource_settings.overwrite_resources)
    CONFIG = read_config(GIVEN)
    PLANS = Plans(
        CONFIG,
        Context(
            results=RESULTS,
            logs=LOGS,
            here=HERE,
            cache=snakefile.CACHE,
            files=workflow.is_main_process,
            targets=snakefile.targets_of(workflow),
        ),
    )
    if workflow.is_main_process:
        of_plans = (notice for plan in PLANS.values() for notice in plan.notices())
        snakefile.tell(notice_lines([*notices(CONFIG), *of_plans]))

RULES = area_rules.rules_of(AREAS, PLANS, CONFIG.resources, SITE, RESULTS, JOB_RULES, ONE_CLASS)
COMPARED = ["--results", RESULTS, "--logs", LOGS, "--out", f"{RESULTS}/compare", *flags(SITE.prices)]
REFRESH_COMPARISON = shlex.join(["python", "-m", "splatdag.commands.compare", *COMPARED])


wildcard_constraints:
    capture=NAME,
    eval_name=NAME,
    exp=NAME,
    scene=NAME,
    sample="|".join(name for area in AREAS for name in area.samples),


RECEIPTS = (RECEIPT, "frames.json")
"""Written last into folders that rules make; they stand for these as outputs and inputs, since Snakemake compares files."""


def made(of_job):
    """An input that a rule makes; what is the user's own is looked for when jobs are planned, but no input."""

    @for_every_job
    def files(wildcards):
        path = of_job(wildcards)
        return [] if isinstance(path, Own) else path

    return files


def path_of(of_job):
    """The path that a job is given, where that may be the user's own: a file, or the folder of a receipt."""

    @for_every_job
    def path(wildcards):
        path = Path(workflow.pathvars.apply(str(of_job(wildcards))))
        return str(path.parent if path.name in RECEIPTS and not path.is_dir() else path)

    return path


def finished_runs(wildcards):
    """Digest of all manifests, so that the comparison is made again when a run is added or changes."""
    manifests = Path(RESULTS).glob("*/**/manifest.json")
    return digest_of_files(path for path in manifests if path.parent.name != "state")
