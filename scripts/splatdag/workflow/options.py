"""Options: one typed class per stage, from which flags, config section, schema and docs table come."""

from __future__ import annotations

import functools
import reprlib
import types
import typing
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from splatdag.workflow.errors import UserError, nearest

T = TypeVar("T", bound="Options")
_short = reprlib.Repr()
_short.maxstring = _short.maxlong = _short.maxother = 80
"""Shortened texts of values, for messages: a list whose parts are aliases of each other would be endless in full."""
AUTO = "auto"
"""Name of the preset that stands for one preset on a CPU and for another on a GPU."""
_NULL, _OFF = ("null", "none", "~"), ("false", "no", "off", "0")
"""Texts for None and False in YAML and Python. Snakemake's `--config` passes on text: of `{cap: null}`, "null"."""


class Options(BaseModel):
    """Base of all options: unknown keys are errors, field docstrings are the help.

    A class with a field `preset` lists its presets in `presets`: the values of the named preset stand in for
    the defaults, and values that are given beside it win. The preset `auto` stands for one of them on a CPU and for
    another on a GPU, as the attribute `auto` says; the stage decides which (`resolved`), and until then the given
    values have to fit both. `model_fields_set` has what was given, not what a preset filled in.

    Options of other programs that splatdag does not have are in `refused`: the name, or a pattern, and the reason;
    values that switch them off are accepted. An option that may be None is unset by `null`, `~` or `None`, as text too,
    and by empty text unless it is in `may_be_empty`. A section that is unset has its defaults.
    """

    model_config = ConfigDict(
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
        defer_build=True,  # most classes are only bases of others, or parts of them
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    preset_meanings: ClassVar[dict[str, str]] = {}
    auto: ClassVar[dict[str, str]] = {}
    """`cpu` and `gpu`: the presets that `auto` stands for."""
    refused: ClassVar[dict[str, str]] = {}
    may_be_empty: ClassVar[tuple[str, ...]] = ()
    section: ClassVar[str] = ""
    """Section of a whole config.yaml that has them, such as `captures.train`."""

    @model_validator(mode="wrap")
    @classmethod
    def _fill_from_preset(cls, given: Any, make: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(given, dict):
            return make(given)
        given = {key: cls._read(key, value) for key, value in given.items() if not cls._left_out(str(key), value)}
        if not cls.presets:
            return make(given)
        name = given.get("preset", cls.model_fields["preset"].default)
        if name == AUTO and cls.auto:
            for preset in cls.auto.values():
                cls.model_validate({**given, "preset": preset})
        made = make(merged(cls.presets.get(name, {}), given) if isinstance(name, str) else given)
        _mark_given(made, given)
        return made

    @classmethod
    def _read(cls, key: str, value: Any) -> Any:
        """Return a value as given, None for null; refuse a NUL, which YAML can write, but no file name or flag has."""
        if isinstance(value, str) and cls.unsets(key, value):
            return None
        if isinstance(value, str | list) and any(isinstance(part, str) and "\0" in part for part in value):
            problem = PydanticCustomError("nul", "a NUL, which no text can have here")
            raise ValidationError.from_exception_data(cls.__name__, [{"type": problem, "loc": (key,), "input": value}])
        return value

    @classmethod
    def unsets(cls, name: str, text: str) -> bool:
        """Tell whether a text stands for None as the value of an option that may be None."""
        field = cls.model_fields.get(name)
        optional = field is not None and type(None) in typing.get_args(field.annotation)
        return optional and (is_null(text) or (not text and name not in cls.may_be_empty))

    @classmethod
    def _left_out(cls, key: str, value: Any) -> bool:
        """Tell whether a key counts as not given: a section that is unset, or a refused option that is switched off."""
        field = cls.model_fields.get(key)
        if field is None:
            return cls._refuses(key, value)
        return key in _sections(cls) and (value == "" or is_null(value))

    @classmethod
    def _refuses(cls, key: str, value: Any) -> bool:
        """Tell whether a key is a refused option that is switched off; raise ValueError if it is on."""
        reason = cls.reason_against(key)
        if reason is not None and value and not is_null(value) and str(value).lower() not in _OFF:
            raise ValueError(f"{key}: {reason}")
        return reason is not None

    @classmethod
    def reason_against(cls, key: str) -> str | None:
        """Return the reason why an option of this name is refused, or None."""
        return next((reason for pattern, reason in cls.refused.items() if fnmatchcase(key, pattern)), None)

    @property
    def unresolved(self) -> bool:
        """Tell whether the preset is `auto`, so that values that were not given are not known yet."""
        return bool(self.auto) and getattr(self, "preset", None) == AUTO

    def resolved(self, device_count: int) -> Self:
        """Return these options with the preset that `auto` stands for, and all that was given.

        Args:
            device_count: GPUs that are used; 0 is the CPU.
        """
        if not self.unresolved:
            return self
        return type(self).model_validate(explicit(self) | {"preset": self.auto["gpu" if device_count else "cpu"]})

    def notices(self) -> list[str]:
        """Return notices for the user on these values, such as a setting without effect; a line each."""
        return []


class SampleOptions(Options):
    """Base of the options of a bundled sample."""

    made: ClassVar[str]
    """Description of the sample and of how it is made, which follows its name on pages and in recordings."""


def _mark_given(options: Options, given: dict[str, Any]) -> None:
    """Reduce `model_fields_set` to what was given, also in sections in which a preset filled in more."""
    options.model_fields_set.intersection_update(given)
    for name in _sections(type(options)):
        of_section = given.get(name, {})
        if isinstance(of_section, dict):
            _mark_given(getattr(options, name), of_section)


def is_null(value: Any) -> bool:
    """Tell whether a value is None, or the text for it."""
    return value is None or (isinstance(value, str) and value.strip().lower() in _NULL)


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Merge nested values, those of `over` in place of those of `base`."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def validated(options: type[T], given: Any, where: str) -> T:
    """Make options from plain values.

    Args:
        options: the class.
        given: a mapping as YAML or a sheet gives it; None is an empty one.
        where: place that the message names, such as `config: captures.train`.

    Raises:
        UserError: one line per problem; an unknown key names the nearest known one.
    """
    try:
        return options.model_validate({} if given is None else given)
    except ValidationError as error:
        raise UserError(explained(error, options, where)) from None


def explained(error: ValidationError, options: type[Options], where: str) -> str:
    """Return the problems that pydantic found, one line each."""
    lines = [_one_line(options, problem, where) for problem in error.errors()]
    return "\n".join(dict.fromkeys(lines))


def _one_line(options: type[Options], problem: Any, where: str) -> str:
    path = [str(part) for part in problem["loc"]]
    key = ".".join([where, *path]) if path else where
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key{nearest(path[-1], _known_keys(options, path[:-1]))}"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if problem["type"] == "missing" or isinstance(problem["input"], dict):
        return f"{key}: {message}"
    try:
        shown = _short.repr(problem["input"])
    except ValueError:  # a number of thousands of digits
        return f"{key}: {message}"
    return f"{key}: {message}" if len(shown) > 60 else f"{key}: {message}, not {shown}"


def _known_keys(options: type[Options], path: Sequence[str]) -> list[str]:
    inner = _section(options, path)
    return list(inner.model_fields) if inner is not None else []


def _section(options: type[Options], path: Sequence[str]) -> type[Options] | None:
    """Return the class of options at a path of keys, which may be keys of a dictionary; None where it is no section."""
    found: Any = options
    for part in path:
        if typing.get_origin(found) is dict:
            found = typing.get_args(found)[1]
        elif _is_options(found) and part in found.model_fields:
            found = found.model_fields[part].annotation
        else:
            return None
    return found if _is_options(found) else None


def _is_options(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Options)


@functools.cache
def _sections(options: type[Options]) -> list[str]:
    """Return the names of the fields that are options themselves."""
    return [name for name, field in options.model_fields.items() if _is_options(field.annotation)]


def changed(options: Options, prefix: str = "") -> set[str]:
    """Return the dotted names of all values that differ from the defaults of the class, by a preset or by the user."""
    names = set()
    for name, default in _field_defaults(type(options)).items():
        value = getattr(options, name)
        if isinstance(value, Options):
            names |= changed(value, f"{prefix}{name}.")
        elif value != default:
            names.add(prefix + name)
    return names


@functools.cache
def _field_defaults(kind: type[Options]) -> dict[str, Any]:
    return {name: field.get_default(call_default_factory=True) for name, field in kind.model_fields.items()}


def notices_of(options: Options) -> list[str]:
    """Return the notices of options whose preset may be `auto`; one that holds on one kind of device alone says so."""
    if not options.unresolved:
        return options.notices()
    on = {device: options.resolved(int(device == "gpu")).notices() for device in options.auto}
    both = [line for line in on["cpu"] if line in on["gpu"]]
    return both + [
        f"{line} (on a {device.upper()}, where preset auto is {options.auto[device]})"
        for device, lines in on.items()
        for line in lines
        if line not in both
    ]


def explicit(options: Options) -> dict[str, Any]:
    """Return the values that were given, not filled in by a preset or a default, nested as in the config."""
    sections = {name: explicit(getattr(options, name)) for name in _sections(type(options))}
    return {
        name: sections.get(name, getattr(options, name))
        for name in type(options).model_fields
        if sections.get(name, name in options.model_fields_set)
    }


def differences(options: Options) -> dict[str, Any]:
    """Return the given values that differ from the defaults (of the preset, if there is one), nested as in the config.

    With preset `auto`, these are the values that differ from those of any preset that it stands for.
    """
    kind = type(options)
    if "preset" not in kind.model_fields:
        return _differences(options, explicit(options), [_defaults(kind)])
    preset: str = getattr(options, "preset")  # noqa: B009 - a field of derived classes
    presets = kind.auto.values() if options.unresolved else [preset]
    given = {name: value for name, value in explicit(options).items() if name != "preset"}
    return {"preset": preset} | _differences(options, given, [_defaults(kind, name) for name in presets])


@functools.cache
def _defaults(kind: type[T], preset: str | None = None) -> T:
    return kind() if preset is None else kind.model_validate({"preset": preset})


def _differences(options: Options, given: dict[str, Any], defaults: Sequence[Options]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, of_section in given.items():
        value, others = getattr(options, name), [getattr(default, name) for default in defaults]
        if any(value != other for other in others):
            found[name] = _differences(value, of_section, others) if isinstance(value, Options) else value
    return found


def overridden(options: T, overrides: dict[str, Any], where: str) -> T:
    """Return options with some values replaced; a new preset changes the values that were not given.

    Raises:
        UserError: as for `validated`.
    """
    return validated(type(options), merged(explicit(options), overrides), where)


def only(options: Options, base: type[T]) -> T:
    """Return the part of some options that belongs to a base class of theirs."""
    return base(**{name: getattr(options, name) for name in base.model_fields})


def flags(options: Options) -> list[str]:
    """Return the command-line flags that give these options: the preset, and the values that differ from it."""
    return list(_flags(differences(options), options, ""))


def _flags(values: dict[str, Any], options: Options, prefix: str) -> Iterator[str]:
    for name, value in values.items():
        flag = f"{prefix}{name}".replace("_", "-")
        if isinstance(value, dict):
            yield from _flags(value, getattr(options, name), f"{prefix}{name}.")
        elif isinstance(value, bool) and type(options).model_fields[name].annotation is bool:
            yield f"--{flag}" if value else f"--{prefix}no-{name}".replace("_", "-")
        elif isinstance(value, list | tuple):
            yield from [f"--{flag}", *map(str, value)]
        else:
            yield f"--{flag}={value}"


def with_unset(arguments: Sequence[str], kinds: Sequence[type[Options]]) -> list[str]:
    """Return arguments with `None`, the only word for it that tyro knows, where a flag of these options is unset."""
    words = list(arguments)
    for place, word in enumerate(arguments):
        flag, joined, value = word.partition("=")
        if flag.startswith("--") and joined and _unset_by_flag(kinds, flag, value):
            words[place] = f"{flag}=None"
        elif word.startswith("--") and any(_unset_by_flag(kinds, word, value) for value in arguments[place + 1 :][:1]):
            words[place + 1] = "None"
    return words


def _unset_by_flag(kinds: Sequence[type[Options]], flag: str, value: str) -> bool:
    *path, name = flag.removeprefix("--").replace("-", "_").split(".")
    sections = [section for kind in kinds if (section := _section(kind, path)) is not None]
    return any(section.unsets(name, value) for section in sections)


def with_presets(options: type[Options], prefix: str = "") -> Iterator[tuple[str, type[Options]]]:
    """Yield key and class of these options and of all sections below them, as far as they have presets."""
    if options.presets:
        yield prefix.removesuffix("."), options
    for name in _sections(options):
        yield from with_presets(typing.cast(type[Options], options.model_fields[name].annotation), f"{prefix}{name}.")


def documented_presets(options: type[Options]) -> Iterator[tuple[str, str, str]]:
    """Yield the rows of the docs table of a class's presets: name, meaning, and the values that it sets."""
    if options.auto:
        yield AUTO, f"`{options.auto['cpu']}` on a CPU, `{options.auto['gpu']}` on a GPU", ""
    for name, values in options.presets.items():
        yield name, options.preset_meanings[name], ", ".join(_written(values))


def _written(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _written(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key} {_shown(value)}"


def documented(options: type[Options], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Yield the rows of the docs table: key, type and range, default, meaning; nested options follow their parent."""
    for name, field in options.model_fields.items():
        if _is_options(field.annotation):
            yield from documented(typing.cast(type[Options], field.annotation), f"{prefix}{name}.")
        else:
            default = "required" if field.is_required() else _shown(field.get_default(call_default_factory=True))
            yield f"{prefix}{name}", _kind(field), default, " ".join((field.description or "").split())


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return ", ".join(map(str, value)) if isinstance(value, tuple | dict) else str(value)


def _kind(field: FieldInfo) -> str:
    limits = {"gt": "> ", "ge": "≥ ", "lt": "< ", "le": "≤ "}
    bounds = [
        f"{sign}{_number(getattr(bound, key))}"
        for bound in field.metadata
        for key, sign in limits.items()
        if getattr(bound, key, None) is not None
    ]
    return " ".join([_type_name(field.annotation), ", ".join(bounds)]).strip()


def _number(value: float) -> str:
    return f"{value:g}"


def _type_name(annotation: Any) -> str:
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type_name(inner[0])
    if origin is Literal:
        return " or ".join(map(str, inner))
    if origin in (typing.Union, types.UnionType):
        return " or ".join("null" if part is type(None) else _type_name(part) for part in inner)
    if origin is dict:
        return "sections by name"
    if origin in (list, tuple):
        return f"list of {_type_name(inner[0])}"
    return {"str": "text", "Path": "path"}.get(annotation.__name__, annotation.__name__)
