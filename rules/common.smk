"""What all areas share: the checked config, digests, site and profile. A wrong input stops here, before the DAG."""

import functools
import json
import shlex
import sys
from pathlib import Path

from splatdag.captures.sheet import read_captures
from splatdag.config import read_config
from splatdag.workflow import snakefile
from splatdag.workflow.code_digest import code_digest
from splatdag.workflow.inventory import data_digest
from splatdag.workflow.options import flags
from splatdag.workflow.sheets import NAME
from splatdag.workflow.snakefile import for_every_job, scaled

HERE = Path(str(workflow.current_basedir)).parent  # ours, also as a module of another workflow

snakefile.prepare_environment()


configfile: snakefile.found("config/config.yaml", HERE)


with snakefile.one_line_errors():
    if workflow.is_main_process:
        snakefile.check_profile(sys.argv, workflow.main_snakefile)
    site = snakefile.site_resources(HERE)
    GIVEN = {key: value for key, value in config.items() if key != "pathvars"}
    CONFIG = read_config(GIVEN)
    CAPTURES_SHEET = snakefile.found(CONFIG.captures.sheet, HERE)
    CAPTURES = read_captures(CAPTURES_SHEET, CONFIG.captures.pose, CONFIG.captures.train)


RESULTS, LOGS = workflow.pathvars.apply("<results>"), workflow.pathvars.apply("<logs>")
REFRESH_COMPARISON = shlex.join(
    ["python", "-m", "splatdag.workflow.compare", "--results", RESULTS, "--logs", LOGS, "--out", f"{RESULTS}/compare"]
)


wildcard_constraints:
    capture=NAME,
    variant="single",


@for_every_job
def capture_data(wildcards):
    """The photos of a capture: a folder that may be touched freely, or a sample's, made by its own rule."""
    capture = CAPTURES[wildcards.capture]
    return f"<results>/samples/{capture.sample}" if capture.sample else ancient(capture.data_dir)


@for_every_job
def capture_digest(wildcards):
    """What the photos are; a sample's are known by the rule that makes them."""
    capture = CAPTURES[wildcards.capture]
    return f"sample:{capture.sample}" if capture.sample else remembered_digest(capture.data_dir)


@functools.cache
def remembered_digest(data_dir):
    with snakefile.one_line_errors():
        return data_digest(data_dir, snakefile.CACHE)


@for_every_job
def pose_flags(wildcards):
    return CAPTURES[wildcards.capture].pose_flags


@for_every_job
def train_flags(wildcards):
    return CAPTURES[wildcards.capture].train_flags


def finished_runs(wildcards):
    """Digest of all manifests, so that the comparison is made again when a run is added or changes."""
    return snakefile.digest_of_files(Path(RESULTS).glob("*/**/manifest.json"))
