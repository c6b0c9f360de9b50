"""What renders, compiled once, ahead of the jobs that need it.

Needs nothing; to compile for a GPU, nvcc. Makes results/kernels/any.json, which says what is ready for which GPU; the
compiled code is in the user's cache folder (splatdag.workflow.user_cache).

The targets ask for the receipt and start with it. It is no input of the trainings: as one marked `ancient`, Snakemake
9.27 would repeat all finished trainings when it had been deleted, and plan no new ones beside a job that renews it. A
training that comes before the receipt, or to a GPU of another kind, compiles for itself while others wait for it.
"""


rule compile_kernels:
    """Compile what renders: for the GPUs of class `any`, or for the CPU where no GPU may be used."""
    output:
        receipt="<results>/kernels/any.json",
    log:
        "<logs>/kernels/any.log",
    benchmark:
        "<benchmarks>/kernels/any.tsv"
    priority: 100
    conda:
        "../envs/core.yaml"
    threads: 8
    resources:
        **site("any", mem_mb=16_000, runtime=30),
    params:
        backend=BACKEND,
        packages=package_versions(COMPILED_WITH),
        code=[code_digest("splats.kernels"), code_digest("commands.compile_kernels")],
    shell:
        "exec python -m splatdag.splats.kernels --receipt {output.receipt:q} --device-count {resources.devices}"
        " --gpu-class {resources.gpu_class} --threads {threads} --log {log:q}"
