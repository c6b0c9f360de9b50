"""What looks at finished runs of all areas.

Needs the manifests that are there. Makes results/compare: a table of all runs, as CSV and as a page, and what
Snakemake's report shows.
"""


localrules:
    compare,
    status,


rule compare:
    """Options and metrics of all finished runs side by side, and what failed: a CSV and an interactive page."""
    output:
        table=report(
            "<results>/compare/runs.csv",
            category="Runs",
            labels={"what": "table of all runs (CSV)"},
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
        sheet=CAPTURES_SHEET,
        results=RESULTS,
        logs=LOGS,
    shell:
        "exec python -m splatdag.status --config {params.config:q} --sheet {params.sheet:q}"
        " --results {params.results:q} --logs {params.logs:q} --log {log:q}"
