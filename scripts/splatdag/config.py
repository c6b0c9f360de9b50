"""The whole config: a section per area, the options of bundled samples, and the resources of rules."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field, create_model, model_validator

from splatdag.areas import AREAS, all_rules
from splatdag.workflow.options import Options, notices_of, validated

_NOTICES_SHOWN = 20
"""Largest number of notices that are printed; a sheet may have thousands of rows."""


class _Sections(Options):
    model_config = ConfigDict(use_attribute_docstrings=False)  # searched for in the source of all callers

    if TYPE_CHECKING:  # the sections are those of the list of areas

        def __getattr__(self, name: str) -> Any: ...


class _OfRules(_Sections):
    """Resources by rule; a key that is not set keeps the rule's own default."""

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        usual = {name: field.default.model_dump() for name, field in cls.model_fields.items()}
        return {
            name: {**usual[name], **own} if name in usual and isinstance(own, dict) else own
            for name, own in given.items()
        }


def _made_of(
    name: str, doc: str, sections: Mapping[str, tuple[Options, str]], base: type[_Sections] = _Sections
) -> type[_Sections]:
    """Make a class of options with a field for each section, from its default and its description."""
    fields: Any = {key: (type(value), Field(value, description=text)) for key, (value, text) in sections.items()}
    return create_model(name, __base__=base, __doc__=doc, **fields)


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().partition("\n")[0]


_samples = {name: (options(), _first_line(options)) for area in AREAS for name, options in area.samples.items()}
_resources = {
    name: (rule.resources, f"Resources of rule `{name}` (area {area.name}).")
    for name, (area, rule) in all_rules().items()
}
SamplesConfig = _made_of("SamplesConfig", "The bundled sample inputs, made on first use.", _samples)
ResourcesConfig = _made_of(
    "ResourcesConfig",
    "Resources of each rule's jobs at their first attempt; a change reruns nothing.",
    _resources,
    _OfRules,
)
_sections: dict[str, tuple[Options, str]] = {
    **{area.name: (area.config(), _first_line(type(area))) for area in AREAS if area.config is not None},
    "samples": (SamplesConfig(), _first_line(SamplesConfig)),
    "resources": (ResourcesConfig(), _first_line(ResourcesConfig)),
}
Config = _made_of("Config", "`config/config.yaml`.", _sections)


def read_config(given: dict[str, Any]) -> _Sections:
    """Check a config and return it.

    Raises:
        UserError: one line per unknown key (naming the nearest), wrong type or value out of range.
    """
    return validated(Config, given, "config")


def notices(options: Options, where: str = "config") -> Iterator[tuple[str, str]]:
    """Yield the section and the text of each notice on a config, such as a setting without effect."""
    yield from ((where, line) for line in notices_of(options))
    for name in type(options).model_fields:
        value = getattr(options, name)
        parts = {name: value} if isinstance(value, Options) else {}
        if isinstance(value, dict):
            parts = {f"{name}.{key}": part for key, part in value.items() if isinstance(part, Options)}
        for key, part in parts.items():
            path = f"{where}: {key}" if where == "config" else f"{where}.{key}"
            yield from notices(part, path)


def notice_lines(found: list[tuple[str, str]]) -> list[str]:
    """Return lines that show notices: each text once, with the first place that has it, and at most twenty texts."""
    count = Counter(text for _, text in found)
    first: dict[str, str] = {}
    for where, text in found:
        first.setdefault(text, where)
    lines = [
        f"{where}: {text}" + (f" (and {count[text] - 1} more rows)" if count[text] > 1 else "")
        for text, where in first.items()
    ]
    rest = len(lines) - _NOTICES_SHOWN
    return lines if rest <= 0 else [*lines[:_NOTICES_SHOWN], f"and {rest} more notices of this kind"]


def schema() -> str:
    """Return the JSON schema of `config/config.yaml`, for editors."""
    return json.dumps(Config.model_json_schema(), indent=2, ensure_ascii=False) + "\n"
