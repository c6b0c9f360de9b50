"""Run of a stage: command line, log with a header per attempt, one-line errors, exit codes."""

from __future__ import annotations

import inspect
import io
import logging
import os
import re
import shlex
import signal
import sys
import time
import traceback
import typing
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Annotated, Any

import tyro
from pydantic import Field, ValidationError, field_validator

from splatdag.workflow.attempts import FAILED, FINISHED, STOPPED, recorded
from splatdag.workflow.config_file import flag_value, options_before_flags
from splatdag.workflow.errors import RESUMABLE, USER_ERROR, Stopped, UserError
from splatdag.workflow.hang_up import stop_on_hang_up
from splatdag.workflow.lock import lock
from splatdag.workflow.manifest import RunId, processor_name
from splatdag.workflow.options import Options, explained, with_unset

FILE_ONLY = {"file_only": True}
"""Mark (`extra`) of a log record that is not for the terminal."""
logger = logging.getLogger(__name__)


class Job(Options):
    """Options that all stages have in common."""

    config: Path | None = None
    """YAML file with options of the stage, or a whole config.yaml; flags win over it."""
    log: Path | None = None
    """Log file, appended to, with a header for each attempt."""
    threads: int = Field(2, ge=1)
    """CPU threads to use."""
    gpu_class: str = ""
    """Class of GPU that the job asked the cluster for; it has a price in site.yaml."""
    run_id: str = ""
    """Identity of the run: AREA/SCENE/VARIANT, such as captures/room/single."""
    sample: str = ""
    """Bundled sample that is worked on, by name and how it is made; empty for the user's own data."""
    debug: bool = False
    """Show the traceback of every error."""

    @field_validator("run_id")
    @classmethod
    def _has_three_parts(cls, text: str) -> str:
        return str(RunId.parse(text)) if text else ""


def run(main: Callable[..., None]) -> None:
    """Run a stage from its command line and exit: 0 done, 2 wrong input, 75 stopped with its state saved, 1 else.

    `main` takes its files as keyword arguments, its options as one argument whose type is an `Options` class,
    and `job: Job`. Flags are the names of the arguments and of the options' fields.
    """
    arguments, lines = parsed(main, sys.argv[1:])
    job: Job = arguments["job"]
    with ExitStack() as stack:
        try:
            stack.enter_context(_logging_to(job.log, _module_name(main)))
        except UserError as error:
            raise SystemExit(_report(str(error))) from None
        except OSError as error:
            raise SystemExit(_report(f"--log: {error.strerror}: {error.filename or job.log}")) from None
        gpus = arguments.get("device_count", 0)
        module = _module_name(main).removeprefix("splatdag.")
        with recorded(module, job.log, processor_name(), job.threads, gpus, job.gpu_class, job.run_id) as attempt:
            attempt.arguments = arguments
            for line in lines:
                logger.info("%s", line)
            code, attempt.end, attempt.reason = _attempt(main, arguments, job)
        raise SystemExit(code)


def parsed(main: Callable[..., None], words: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Parse the words of a command line; return the arguments of `main`, and lines for the log.

    Raises:
        SystemExit: they are wrong; one line was printed.
    """
    shown = io.StringIO()
    words = with_unset(words, _option_classes(main))
    _check_refused(main, words)
    try:
        defaults, lines = _before_flags(main, words)
        with redirect_stderr(shown):
            flat = _with_flat_options(main, defaults)
            arguments = tyro.cli(flat, prog=f"python -m {_module_name(main)}", args=words)
    except ValidationError as error:
        raise SystemExit(_report(explained(error, Options, "command line"))) from None
    except UserError as error:
        raise SystemExit(_report(str(error))) from None
    except SystemExit as end:
        if not end.code:
            raise
        without_title = re.sub(r"^\u256d.*$", "", shown.getvalue(), flags=re.MULTILINE)  # the text says it again
        text = " ".join(re.sub(r"[\u2500-\u257f]", " ", without_title).split())
        text = re.sub(r"\[type=[^\]]*\]|For further information visit \S+ ?", "", text)
        raise SystemExit(_report(f"command line: {text}")) from None
    if arguments["job"].config is not None and not _option_classes(main):
        raise SystemExit(_report("command line: --config: this stage has no options that a file could hold"))
    for name, default in defaults.items():
        if arguments[name].unresolved:
            arguments[name] = arguments[name].model_copy(update={"preset": default.preset})  # type: ignore[attr-defined]
    return arguments, lines


def _before_flags(main: Callable[..., None], words: list[str]) -> tuple[dict[str, Options], list[str]]:
    """Return options from preset and file, by name of their argument, and lines on what preset `auto` stands for."""
    defaults: dict[str, Options] = {}
    lines = []
    for name, kind in typing.get_type_hints(main).items():
        if isinstance(kind, type) and issubclass(kind, Options):
            before = kind() if kind is Job else options_before_flags(kind, words)
            count = flag_value(words, "--device-count") or flag_value(words, "--device_count") or "0"
            defaults[name] = before.resolved(int(count != "0"))
            if before.unresolved:
                preset = defaults[name].preset  # type: ignore[attr-defined]
                lines.append(f"preset auto is {preset} on a {'CPU' if count == '0' else 'GPU'}")
    return defaults, lines


def _option_classes(main: Callable[..., None]) -> list[type[Options]]:
    """Return the classes of a stage's own options."""
    kinds = typing.get_type_hints(main).values()
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Options) and kind is not Job]


def _check_refused(main: Callable[..., None], arguments: list[str]) -> None:
    """Exit with one line at a flag of another program that splatdag refuses."""
    flags = [word.partition("=")[0].lstrip("-").replace("-", "_") for word in arguments if word.startswith("--")]
    for kind in _option_classes(main):
        for flag in flags:
            reason = kind.reason_against(flag)
            if reason is not None and flag not in kind.model_fields:
                raise SystemExit(_report(f"command line: --{flag}: {reason}"))


def _attempt(main: Callable[..., None], arguments: dict[str, Any], job: Job) -> tuple[int, str, str]:
    """Run a stage; return its exit code, its end and, if it did not finish, the reason."""
    begin = time.monotonic()
    try:
        signal.signal(signal.SIGTERM, _raise_stopped)
        stop_on_hang_up()
        main(**arguments)
        signal.signal(signal.SIGTERM, lambda number, frame: None)  # the work is done
    except (Exception, Stopped, KeyboardInterrupt) as error:
        code, end, reason = _end(error)
        expected = isinstance(error, UserError | Stopped | KeyboardInterrupt)
        if job.debug or not expected:
            logger.error("%s", traceback.format_exc(), extra={} if job.debug else FILE_ONLY)
        reason = " ".join(reason.split())
        logger.error("%s: %s", end, reason)
        return code, end, reason
    logger.info("%s in %.1f s", FINISHED, time.monotonic() - begin)
    return 0, FINISHED, ""


def _end(error: BaseException) -> tuple[int, str, str]:
    """Return the exit code of an attempt that did not finish, its end, and the reason."""
    if isinstance(error, UserError):
        return USER_ERROR, FAILED, str(error)
    if isinstance(error, Stopped):
        return RESUMABLE, STOPPED, str(error)
    if isinstance(error, KeyboardInterrupt):
        return 130, FAILED, "interrupted"
    if isinstance(error, MemoryError):
        return 1, FAILED, "out of memory; give the job more memory or lower data size (data_factor)"
    if isinstance(error, OSError) and error.filename:
        return 1, FAILED, f"{error.strerror}: {error.filename}"
    return 1, FAILED, f"{type(error).__name__}: {error}"


def _raise_stopped(number: int, frame: Any) -> None:
    raise Stopped("told to stop (SIGTERM); nothing was published, run the same command again")


def _report(message: str) -> int:
    print(message, file=sys.stderr)
    return USER_ERROR


def _module_name(main: Callable[..., None]) -> str:
    spec = sys.modules[main.__module__].__spec__
    return spec.name if spec else main.__module__


class _logging_to(ExitStack):  # noqa: N801 - used as a context manager, like contextlib's
    """Context in which log lines go to the terminal and to the log file, whose lock keeps a second process away."""

    def __init__(self, log: Path | None, stage: str) -> None:
        super().__init__()
        root = logging.getLogger()
        root.setLevel(logging.INFO)
        label = stage.removeprefix("splatdag.")
        terminal = logging.StreamHandler(sys.stderr)
        terminal.addFilter(lambda record: not getattr(record, "file_only", False))
        terminal.setFormatter(logging.Formatter(f"[{_subject(log) or label}] %(message)s"))
        root.addHandler(terminal)
        self.callback(root.removeHandler, terminal)
        if log is not None:
            stream = _locked(log)
            self.callback(_closed, stream)
            file = _LogFile(stream)
            file.setFormatter(_utc("%(asctime)s %(message)s"))
            root.addHandler(file)
            self.callback(root.removeHandler, file)
            begun = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
            print(f"{begun} started {stage} (process {os.getpid()})", file=stream)
            print(f"{begun} {shlex.join(sys.argv[1:])}", file=stream, flush=True)


@contextmanager
def also_logged_to(path: Path) -> Iterator[None]:
    """Append the log lines of the block to a second file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = path.open("a", encoding="utf-8")
    file = _LogFile(stream)
    file.setFormatter(_utc("%(asctime)s %(message)s"))
    root = logging.getLogger()
    root.addHandler(file)
    try:
        yield
    finally:
        root.removeHandler(file)
        _closed(stream)


class _LogFile(logging.StreamHandler[IO[str]]):
    """Handler of a log file: if it can't be written, as on a full disk, one line says so, and the work goes on."""

    _failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        error = sys.exc_info()[1]
        if not self._failed and isinstance(error, OSError):
            self._failed = True
            print(f"{self.stream.name}: {error.strerror}; the log is not whole, the work goes on", file=sys.stderr)


def _closed(stream: IO[str]) -> None:
    with suppress(OSError):  # what was written last has no room
        stream.close()


def _subject(log: Path | None) -> str | None:
    """Return `captures/room/single/train` for a log that lies under a folder named logs, None for any other."""
    if log is None or "logs" not in log.parts:
        return None
    return "/".join(log.with_suffix("").parts[log.parts.index("logs") + 1 :])


def _utc(pattern: str) -> logging.Formatter:
    formatter = logging.Formatter(pattern, "%Y-%m-%d %H:%M:%S")
    formatter.converter = time.gmtime
    return formatter


def _locked(log: Path) -> IO[str]:
    log.parent.mkdir(parents=True, exist_ok=True)
    stream = log.open("a", encoding="utf-8")
    if not lock(stream):
        stream.close()
        raise UserError(f"{log}: another process is running this stage; wait for it or stop it")
    return stream


def _with_flat_options(main: Callable[..., None], defaults: dict[str, Options]) -> Callable[..., dict[str, Any]]:
    """Return a function for tyro that has `main`'s signature, with options and job flat and with these defaults."""
    hints = typing.get_type_hints(main)
    parameters = []
    for name, parameter in inspect.signature(main).parameters.items():
        kind = hints[name]
        if name in defaults:
            parameter = parameter.replace(annotation=Annotated[kind, tyro.conf.arg(name="")], default=defaults[name])
        else:
            parameter = parameter.replace(annotation=kind)
        parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    def collect(**given: Any) -> dict[str, Any]:
        return given

    collect.__doc__ = main.__doc__
    collect.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    collect.__annotations__ = {p.name: p.annotation for p in parameters}
    return collect
