"""What all areas share: the checked config and inputs, digests, site and profile. A wrong input stops here, before the DAG."""

import json
import shlex
import sys
from pathlib import Path

from splatdag import asked
from splatdag.captures import targets
from splatdag.captures.sheet import Stages, read_captures, row_notices
from splatdag.config import notice_lines, notices, read_config
from splatdag.humans.targets import human_results
from splatdag.splats.kernels import COMPILED_WITH
from splatdag.workflow import snakefile
from splatdag.workflow.code_digest import code_digest
from splatdag.workflow.hang_up import stop_on_hang_up
from splatdag.workflow.manifest import package_versions
from splatdag.workflow.options import flags, only
from splatdag.workflow.sheets import NAME
from splatdag.workflow.site import read_site
from splatdag.workflow.snakefile import for_every_job
from splatdag.workflow.states import remove_states
from splatdag.workflow.yaml_text import check_config_file

HERE = Path(str(workflow.current_basedir)).parent  # ours, also as a module of another workflow

snakefile.prepare_environment()
snakefile.forgive_clocks()


with snakefile.one_line_errors():
    CONFIG_FILE = check_config_file(snakefile.found("config/config.yaml", HERE))


configfile: CONFIG_FILE


RESULTS, LOGS = workflow.pathvars.apply("<results>"), workflow.pathvars.apply("<logs>")
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
    GIVEN = {key: value for key, value in config.items() if key != "pathvars"}
    CONFIG = read_config(GIVEN)
    CAPTURES_SHEET = snakefile.found(CONFIG.captures.sheet, HERE)
    STAGES = Stages(CONFIG.captures.frames, CONFIG.captures.pose, CONFIG.captures.train)
    CAPTURES = read_captures(CAPTURES_SHEET, STAGES, Path(RESULTS), files=workflow.is_main_process)
    HUMANS = human_results(CONFIG.sharing, RESULTS)
    DRIVING = asked.logs_of(CONFIG, Path(RESULTS))
    if workflow.is_main_process:
        snakefile.tell(notice_lines([*notices(CONFIG), *row_notices(CAPTURES, STAGES)]))


site = snakefile.site_resources(SITE)
COMPARED = ["--results", RESULTS, "--logs", LOGS, "--out", f"{RESULTS}/compare", *flags(SITE.prices)]
REFRESH_COMPARISON = shlex.join(["python", "-m", "splatdag.commands.compare", *COMPARED])


wildcard_constraints:
    capture=NAME,
    variant="|".join(targets.VARIANTS),
    eval_name=NAME,
    exp=NAME,
    scene=NAME,


RECEIPTS = ("photos.json", "street.json", "frames.json")
"""Written last into folders that rules make; they stand for these as outputs and inputs, since Snakemake compares files."""


def folder_of(name):
    """The folder that an input names: itself, or the one that its receipt lies in."""

    @for_every_job
    def folder(wildcards, input):
        path = Path(input[name])
        return str(path.parent if path.name in RECEIPTS and not path.is_dir() else path)

    return folder


def sample_digest(name):
    """What a sample is made by: its options and code."""
    return shlex.join([name, code_digest(f"samples.{name}"), *flags(getattr(CONFIG.samples, name))])


def rendered(files):
    """What a target asks for: these results, and first the kernels that they are rendered with."""
    return [*kernels_for(files), *(f"{RESULTS}/{file}" for file in files)]


def kernels_for(files):
    """What trainings need ahead, where there are any."""
    return [f"{RESULTS}/kernels/any.json"] if files else []


def finished_runs(wildcards):
    """Digest of all manifests, so that the comparison is made again when a run is added or changes."""
    manifests = Path(RESULTS).glob("*/**/manifest.json")
    return snakefile.digest_of_files(path for path in manifests if path.parent.name != "state")
