"""Command lines that give the same result again, whatever defaults and config files are then."""

from __future__ import annotations

from typing import Any

from splatdag.workflow.attempts import this_attempt
from splatdag.workflow.options import Options, flags

_OF_JOB = ("threads", "gpu_class", "run_id", "sample")
"""Options of `Job` that results depend on."""


def this_command(options: Options | None = None) -> list[str]:
    """Return the flags of this stage, its options with all that a preset, a config file or the device decided.

    Args:
        options: options in place of those that the command line gave.

    Returns:
        The flags; none where this process runs no stage.
    """
    attempt = this_attempt()
    return [] if attempt is None else command(attempt.arguments, options)


def command(arguments: dict[str, Any], options: Options | None = None) -> list[str]:
    """Return the flags that give these arguments of a stage's `main`, with `options` in place of those among them."""
    words: list[str] = []
    for name, value in arguments.items():
        flag = f"--{name}".replace("_", "-")
        if name == "job":
            words += [f"--{key}={getattr(value, key)}".replace("_", "-", 1) for key in _OF_JOB if getattr(value, key)]
        elif isinstance(value, Options):
            words += flags(options or value)
        elif isinstance(value, list | tuple):
            words += [flag, *map(str, value)]
        elif value is not None:
            words.append(f"{flag}={value}")
    return words
