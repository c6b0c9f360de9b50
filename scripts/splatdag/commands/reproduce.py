"""Print the commands that make a run again, from its manifest alone."""

from __future__ import annotations

import argparse
import importlib
import inspect
import shlex
import sys
import tempfile
from contextlib import chdir, redirect_stderr
from io import StringIO
from pathlib import Path

from pydantic import ValidationError

from splatdag.workflow.code_digest import code_digest
from splatdag.workflow.errors import USER_ERROR, UserError
from splatdag.workflow.manifest import Manifest, Part, package_versions
from splatdag.workflow.publish import read_json
from splatdag.workflow.stage import parsed

_INPUTS = ("--resume-from",)
"""Flags whose files an earlier run made, though they may lie in the folder of the run."""


def main() -> None:
    """Print the commands, and on stderr what is not as it was; exit with 2 where the run can't be made again."""
    parser = argparse.ArgumentParser(prog="python -m splatdag.commands.reproduce", description=__doc__)
    parser.add_argument("manifest", type=Path, help="manifest.json of a run")
    parser.add_argument("--into", type=Path, help="folder to make it in; unset: its own")
    arguments = parser.parse_args()
    try:
        manifest = _read(arguments.manifest)
        lines = commands(manifest, arguments.into)
    except UserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(USER_ERROR) from None
    for line in differences(manifest):
        print(f"not as it was: {line}", file=sys.stderr)
    print("\n".join(lines))


def _read(path: Path) -> Manifest:
    try:
        return Manifest.model_validate(read_json(path))
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise UserError(f"{path}: not the manifest of a run ({where})") from None


def commands(manifest: Manifest, into: Path | None = None) -> list[str]:
    """Return the shell commands that make a run again.

    Args:
        manifest: of the run.
        into: folder to make it in, in place of its own.

    Raises:
        UserError: its manifest does not tell how it was made.
    """
    if not manifest.parts or not all(part.command for part in manifest.parts):
        raise UserError(f"{manifest.folder}: its manifest does not tell how it was made: no stage wrote it")
    lines: list[str] = []
    directory = ""
    for part in manifest.parts:
        if part.directory != directory:
            directory = part.directory
            lines.append(f"cd {shlex.quote(directory)}")
        words = part.command if into is None else _moved(part, Path(manifest.folder), into.absolute())
        lines.append(shlex.join(["python", "-m", f"splatdag.{part.stage}", *words]))
    return lines


def _moved(part: Part, run_dir: Path, into: Path) -> list[str]:
    """Return the flags of a part, with paths in the run's folder moved into another folder."""
    words = []
    for word in part.command:
        flag, equals, value = word.partition("=")
        path = Path(part.directory, value)
        if equals and flag not in _INPUTS and path.is_relative_to(run_dir):
            word = f"{flag}={into / path.relative_to(run_dir)}"
        words.append(word)
    return words


def differences(manifest: Manifest) -> list[str]:
    """List the code, packages and inputs that differ from those the run was made with, a line each."""
    found = [f"code of {part.stage}" for part in manifest.parts if code_digest(part.stage) != part.code]
    now = package_versions()
    for name in sorted({*now, *manifest.packages}):
        if now.get(name) != manifest.packages.get(name):
            found.append(f"{name} {now.get(name, 'is missing')}, was {manifest.packages.get(name, 'missing')}")
    for part in manifest.parts:
        found += _changed_inputs(part)
    return list(dict.fromkeys(found))


def _changed_inputs(part: Part) -> list[str]:
    """List the inputs of a part that have changed since, or can't be read."""
    if not part.inputs:
        return []
    try:
        module = importlib.import_module(f"splatdag.{part.stage}")
    except ModuleNotFoundError:
        return [f"there is no stage {part.stage}"]
    if not hasattr(module, "input_digests"):
        return [f"inputs of {part.stage} may be others, which is not looked at"]
    if not Path(part.directory).is_dir():
        return [f"inputs of {part.stage}: no such folder: {part.directory}"]
    with chdir(part.directory), tempfile.TemporaryDirectory() as cache:
        said = StringIO()
        try:
            with redirect_stderr(said):
                arguments, _ = parsed(module.main, part.command)
            wanted = inspect.signature(module.input_digests).parameters
            given = {name: value for name, value in {**arguments, "cache": Path(cache)}.items() if name in wanted}
            digests = module.input_digests(**given)
        except SystemExit:
            return [f"inputs of {part.stage}: {said.getvalue().strip()}"]
        except (UserError, OSError) as error:
            return [f"inputs of {part.stage}: {error}"]
    return [f"{name} ({part.stage})" for name, digest in part.inputs.items() if digests.get(name) != digest]


if __name__ == "__main__":
    main()
