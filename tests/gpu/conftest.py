"""What the tests on CUDA end with: on what they ran, and the largest difference of each quantity."""

from __future__ import annotations

import pytest
import torch
from both import LARGEST

from splatdag.workflow.manifest import package_versions


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not LARGEST:
        return
    terminalreporter.section("CPU and CUDA")
    terminalreporter.line(
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}, gsplat {package_versions().get('gsplat')};"
        " largest relative L2 difference:"
    )
    for name, error in LARGEST.items():
        terminalreporter.line(f"{name}: {error:.1e}")
