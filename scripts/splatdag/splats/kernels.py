"""Compile what renders, before jobs need it: gsplat's CUDA module, or the CPU's kernels."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from splatdag.workflow.gpu_slots import visible_gpus
from splatdag.workflow.manifest import package_versions, processor_name
from splatdag.workflow.publish import write_json
from splatdag.workflow.stage import Job, run
from splatdag.workflow.user_cache import COMPILED_WITH, ensure_kernels

logger = logging.getLogger(__name__)


def main(job: Job, receipt: Path | None = None, device_count: int = 0) -> None:
    """Compile what renders, once per version and GPU architecture; jobs that come first would do so themselves.

    On a machine with the CUDA toolkit and without a GPU, TORCH_CUDA_ARCH_LIST says for which GPUs ("8.0 9.0").

    Args:
        job: how to run.
        receipt: file to write about what is ready.
        device_count: CUDA devices that may be used; 0 is the CPU.
    """
    begin = time.perf_counter()
    ready = _for_cuda(device_count, job.threads) if device_count else _for_cpu()
    ready |= {"packages": package_versions(COMPILED_WITH), "seconds": round(time.perf_counter() - begin, 1)}
    if receipt is not None:
        write_json(receipt, ready)


def _for_cpu() -> dict[str, Any]:
    ensure_kernels()
    return {"backend": "cpu", "device": processor_name(), "architectures": []}


def _for_cuda(count: int, threads: int) -> dict[str, Any]:
    from splatdag.splats.cuda.extension import built, device_architecture, listed_architectures
    from splatdag.splats.devices import use_device
    from splatdag.training.devices import check_cuda_build, device_name

    check_cuda_build()
    listed = [] if visible_gpus() else listed_architectures()
    if listed:
        for architecture in listed:
            logger.info("compute capability %s: %s", architecture, built(architecture))
        return {"backend": "cuda", "device": None, "architectures": listed}
    device = use_device(count, threads)
    return {"backend": "cuda", "device": device_name(device), "architectures": [device_architecture()]}


if __name__ == "__main__":
    run(main)
