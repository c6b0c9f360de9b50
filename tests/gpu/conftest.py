"""What the tests on CUDA need, and what they end with: on what they ran, the largest difference of each quantity."""

from __future__ import annotations

import pytest
import torch
from support.both import LARGEST

from splatdag.splats.cuda.extension import ensure_extension
from splatdag.workflow.manifest import package_versions


@pytest.fixture(autouse=True, scope="session")
def gsplat_compiled() -> None:
    """gsplat's extension from our cache, as in every stage."""
    if torch.cuda.is_available():
        ensure_extension()


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
