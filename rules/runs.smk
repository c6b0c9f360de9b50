"""What looks at finished runs of all areas, and at what all areas need.

Needs the manifests and logs that are there. Makes results/compare: tables of all runs and of what their stages cost, as
CSV and on a page, and what Snakemake's report shows.
"""


localrules:
    check_checkpoints,
    compare,
    status,


rule compare:
    """All finished runs side by side, what failed, and what each scene and stage cost: two CSV and an interactive page."""
    input:
        prices=SITE_FILE,
    output:
        table=report(
            "<results>/compare/runs.csv",
            category="Runs",
            labels={"what": "table of all runs (CSV)"},
        ),
        costs=report(
            "<results>/compare/costs.csv",
            category="Runs",
            labels={"what": "GPU-hours and costs per scene and stage (CSV)"},
        ),
        page=report(
            "<results>/compare/index.html",
            category="Runs",
            labels={"what": "all runs side by side"},
        ),
        previews=report(
            directory("<results>/compare/previews"),
            patterns=["{run}.jpg"],
            category="Prediction | ground truth",
            labels={"run": "{run}"},
        ),
        curves=report(
            directory("<results>/compare/curves"),
            patterns=["{run}.png"],
            category="Curves",
            labels={"run": "{run}"},
        ),
    log:
        "<logs>/compare.log",
    conda:
        "../envs/core.yaml"
    params:
        runs=finished_runs,
        command=REFRESH_COMPARISON,
    shell:
        "exec {params.command} --log {log:q}"


rule status:
    """Print the state of every scene and stage: done, running, failed and why, or waiting."""
    log:
        "<logs>/status.log",
    conda:
        "../envs/core.yaml"
    params:
        config=json.dumps(GIVEN),
        here=str(HERE),
        results=RESULTS,
        logs=LOGS,
    shell:
        "exec python -m splatdag.commands.status --config-json {params.config:q} --here {params.here:q}"
        " --results {params.results:q} --logs {params.logs:q} --log {log:q}"


rule check_checkpoints:
    """Print what pretrained models need: checkout, interpreter, weights and their licence, memory, and what is missing."""
    log:
        "<logs>/check_checkpoints.log",
    conda:
        "../envs/core.yaml"
    params:
        config=json.dumps(GIVEN),
        here=str(HERE),
        results=RESULTS,
        logs=LOGS,
    shell:
        "exec python -m splatdag.commands.check_checkpoints --config-json {params.config:q} --here {params.here:q}"
        " --results {params.results:q} --logs {params.logs:q} --log {log:q}"
