"""What all areas use: bundled samples, and what renders, compiled once, ahead of the jobs that need it.

Needs nothing; to compile for a GPU, nvcc. Makes
- results/samples/room: images/, cameras.json (the exact cameras)
- results/samples/humans: results/ (what the human trainer would have left) and scenes/
- results/samples/street: 001/, 002/ … (driving logs in PandaSet's layout), truth/ (where everything moves)
  and in each sample.json, written last
- results/weights/lpips_<net>.json, which says whether the weights that LPIPS measures by are there, or why not; they lie
  where torchvision keeps its own, and are asked for only where they are missing
- results/kernels/any.json, which says what is ready for which GPU; the compiled code is in the user's cache folder
  (splatdag.workflow.user_cache)

The targets ask for the receipts of kernels and weights and start with them. They are no inputs of the trainings: as one
marked `ancient`, Snakemake 9.27 would repeat all finished trainings when it had been deleted, and plan no new ones beside a
job that renews it. A training that comes before the receipt of the kernels, or to a GPU of another kind, compiles for itself
while others wait for it; who measures waits a minute for weights that are being fetched.
"""

from splatdag.areas import NETS
from splatdag.workflow.sheets import any_of

house = RULES["house"]


localrules:
    fetch_lpips,


rule make_sample:
    """Make a bundled sample: the ray-traced room or street, or what the human trainer would have left."""
    output:
        receipt=house.output("make_sample"),
    log:
        house.log("make_sample"),
    benchmark:
        house.benchmark("make_sample")
    conda:
        "../envs/core.yaml"
    threads: house.threads("make_sample")
    resources:
        **house.resources("make_sample"),
    params:
        flags=house.sample_flags,
        code=house.sample_code,
        out=subpath(output.receipt, parent=True),
    shell:
        "exec python -m splatdag.samples.{wildcards.sample} --out {params.out:q} --threads {threads}"
        " --run-id samples//{wildcards.sample} --log {log:q}"
        " {params.flags:q}"


rule compile_kernels:
    """Compile what renders: for the GPUs of class `any`, or for the CPU where no GPU may be used."""
    output:
        receipt=house.output("compile_kernels"),
    log:
        house.log("compile_kernels"),
    benchmark:
        house.benchmark("compile_kernels")
    priority: 100
    conda:
        "../envs/core.yaml"
    threads: house.threads("compile_kernels")
    resources:
        **house.resources("compile_kernels"),
    params:
        backend=BACKEND,
        packages=package_versions(COMPILED_WITH),
        code=[code_digest("splats.kernels"), code_digest("commands.compile_kernels")],
    shell:
        "exec python -m splatdag.splats.kernels --receipt {output.receipt:q} --device-count {resources.devices}"
        " --gpu-class {resources.gpu_class} --threads {threads} --run-id kernels//any --log {log:q}"


rule fetch_lpips:
    """Fetch the weights that LPIPS measures by, where the network allows; they are shared by all runs of a user."""
    output:
        receipt=house.output("fetch_lpips"),
    log:
        house.log("fetch_lpips"),
    benchmark:
        house.benchmark("fetch_lpips")
    wildcard_constraints:
        net=any_of(NETS),
    priority: 100
    conda:
        "../envs/core.yaml"
    threads: house.threads("fetch_lpips")
    resources:
        **house.resources("fetch_lpips"),
    params:
        code=house.code("fetch_lpips"),
    shell:
        "exec python -m splatdag.splats.fetch_lpips --net {wildcards.net} --receipt {output.receipt:q} --threads {threads}"
        " --run-id weights//lpips_{wildcards.net} --log {log:q}"
