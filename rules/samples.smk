"""The bundled sample inputs.

Needs nothing. Makes
- results/samples/room: images/, cameras.json (the exact cameras) and photos.json
- results/samples/humans: results/ (what the human trainer would have left) and scenes/
- results/samples/street: 001/, 002/ … (driving logs in PandaSet's layout), truth/ (where everything moves) and
  street.json
"""


rule make_sample_room:
    """Ray-trace the sample capture: a textured room with objects on a table."""
    output:
        receipt="<results>/samples/room/photos.json",
    log:
        "<logs>/samples/room.log",
    benchmark:
        "<benchmarks>/samples/room.tsv"
    conda:
        "../envs/core.yaml"
    threads: 2
    resources:
        **site("cpu", mem_mb=2_000, runtime=10),
    params:
        flags=flags(CONFIG.samples.room),
        code=code_digest("samples.room"),
        out=subpath(output.receipt, parent=True),
    shell:
        "exec python -m splatdag.samples.room --out {params.out:q} --threads {threads} --log {log:q} {params.flags:q}"


rule make_sample_humans:
    """Make the sample run of the human trainer: two people, three cameras, two evaluations."""
    output:
        receipt="<results>/samples/humans/sample.json",
    log:
        "<logs>/samples/humans.log",
    benchmark:
        "<benchmarks>/samples/humans.tsv"
    conda:
        "../envs/core.yaml"
    threads: 2
    resources:
        **site("cpu", mem_mb=2_000, runtime=10),
    params:
        flags=flags(CONFIG.samples.humans),
        code=code_digest("samples.humans"),
        out=subpath(output.receipt, parent=True),
    shell:
        "exec python -m splatdag.samples.humans --out {params.out:q} --threads {threads} --log {log:q}"
        " {params.flags:q}"


rule make_sample_street:
    """Ray-trace the sample driving logs: streets with moving cars and people, seen by two lidars and six cameras."""
    output:
        receipt="<results>/samples/street/street.json",
    log:
        "<logs>/samples/street.log",
    benchmark:
        "<benchmarks>/samples/street.tsv"
    conda:
        "../envs/core.yaml"
    threads: 2
    resources:
        **site("cpu", mem_mb=4_000, runtime=60),
    params:
        flags=flags(CONFIG.samples.street),
        code=code_digest("samples.street"),
        out=subpath(output.receipt, parent=True),
    shell:
        "exec python -m splatdag.samples.street --out {params.out:q} --threads {threads} --log {log:q} {params.flags:q}"
