"""The bundled sample inputs.

Needs nothing. Makes results/samples/room: images/, cameras.json (the exact cameras) and photos.json.
"""


rule make_sample_room:
    """Ray-trace the sample capture: a textured room with objects on a table."""
    output:
        room=directory("<results>/samples/room"),
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
    shell:
        "exec python -m splatdag.samples.room --out {output.room:q} --threads {threads} --log {log:q} {params.flags:q}"
