"""What looks at finished runs of all areas.

Needs the manifests that are there. Makes results/compare: a table of all runs, as CSV and as a page, and what
Snakemake's report shows.
"""


rule compare:
    output:
        table=report("<results>/compare/runs.csv", category="Runs"),
        page=report("<results>/compare/index.html", category="Runs"),
        previews=report(
            directory("<results>/compare/previews"),
            patterns=["{run}.jpg"],
            category="Prediction | ground truth",
        ),
        curves=report(
            directory("<results>/compare/curves"),
            patterns=["{run}.png"],
            category="Curves",
        ),
    log:
        "<logs>/compare.log",
    """Options and metrics of all finished runs side by side, and what failed: a CSV and an interactive page."""
    localrule: True
    conda:
        "../envs/core.yaml"
    params:
        runs=finished_runs,
        command=REFRESH_COMPARISON,
    shell:
        "exec {params.command} --log {log}"


rule status:
    log:
        "<logs>/status.log",
    """Print the state of every scene and stage: done, running, failed and why, or waiting."""
    localrule: True
    conda:
        "../envs/core.yaml"
    params:
        config=json.dumps(config),
        sheet=CAPTURES_SHEET,
        results=RESULTS,
        logs=LOGS,
    shell:
        "exec python -m splatdag.status --config {params.config:q} --sheet {params.sheet:q} --results {params.results} --logs {params.logs}"
