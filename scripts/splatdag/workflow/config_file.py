"""Options of a stage before its flags: from a preset, and from a YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from splatdag.workflow.errors import UserError
from splatdag.workflow.options import Options, validated
from splatdag.workflow.yaml_text import read_yaml

T = TypeVar("T", bound=Options)
_PACKAGE = Path(__file__).parent.parent


def options_before_flags(options: type[T], arguments: list[str]) -> T:
    """Return the options that `--preset` and `--config` give; a preset from the arguments wins over one in the file.

    Raises:
        UserError: the file is missing, no YAML, or Python; or has an unknown key or a wrong value.
    """
    path, preset = flag_value(arguments, "--config"), flag_value(arguments, "--preset") if options.presets else None
    given = _section(options, Path(path)) if path is not None else {}
    where = path or "command line: --preset"
    return validated(options, given | ({"preset": preset} if preset is not None else {}), where)


def flag_value(arguments: list[str], flag: str) -> str | None:
    """Return the value of a flag among some arguments; None where the flag is not among them."""
    for word, following in zip(arguments, [*arguments, ""][1:], strict=True):
        if word == flag or word.startswith(f"{flag}="):
            return word.partition("=")[2] or following
    return None


def _section(options: type[Options], path: Path) -> dict[str, Any]:
    """Read the options' keys from a file that has them alone, or from their section of a whole config."""
    if path.suffix == ".py":
        keys = ", ".join(options.model_fields)
        raise UserError(f"--config: {path}: a Python file is never run; write YAML with some of these keys: {keys}")
    given = read_yaml(path, f"--config: {path}")
    if isinstance(given, dict) and not _sections(options).isdisjoint(given):
        return _of_whole(options, given, path)
    if not isinstance(given or {}, dict):
        raise UserError(f"--config: {path}: expected keys and values")
    return given or {}


def _sections(options: type[Options]) -> set[str]:
    """Return the sections of a whole config: that of these options, those of areas, and the shared ones.

    No stage has options of these names, so that a file with one of these keys is a whole config.
    """
    areas = {module.parent.name for module in _PACKAGE.rglob("area.py")}
    return {options.section.partition(".")[0], *areas, "sharing", "samples", "resources"}


def _of_whole(options: type[Options], given: Any, path: Path) -> dict[str, Any]:
    """Return the options' section of a whole config, without keys that only a derived class in this section has."""
    if not options.section:
        keys = ", ".join(options.model_fields)
        raise UserError(f"--config: {path}: has no section for this stage; write YAML with some of these keys: {keys}")
    for name in options.section.split("."):
        given = given.get(name) or {}
        if not isinstance(given, dict):
            raise UserError(f"--config: {path}: {options.section}: expected keys and values")
    others = {
        key
        for derived in options.__subclasses__()
        if derived.section == options.section
        for key in derived.model_fields
    }
    return {key: value for key, value in given.items() if key in options.model_fields or key not in others}
