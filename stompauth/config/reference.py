"""What people and editors are told of each key, from the code.

The meaning of a key is the ``:ivar`` of its dataclass, which may begin with its unit in
parentheses.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Any, Final, cast, get_type_hints

from stompauth.authorization.decision import OnDeny
from stompauth.config.checks import CHOICES, range_of
from stompauth.config.entries import RuleTable
from stompauth.config.reader import FILE_OR_FILES, REQUIRED
from stompauth.config.values import Config, InterceptorConfig

_STRINGS: Final = {"type": "array", "items": {"type": "string"}}

#: For each annotation the type in words, and in JSON Schema.
_TYPES: Final[dict[object, tuple[str, dict[str, Any]]]] = {
    bool: ("boolean", {"type": "boolean"}),
    int: ("integer", {"type": "integer"}),
    float: ("number", {"type": "number"}),
    str: ("string", {"type": "string"}),
    OnDeny: ("string", {"type": "string"}),
    tuple[str, ...]: ("strings", _STRINGS),
    tuple[float, float]: (
        "two numbers",
        {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
    ),
    Mapping[str, str]: (
        "table of strings",
        {"type": "object", "additionalProperties": {"type": "string"}},
    ),
}

_FILE_OR_FILES: Final = ("string or strings", {"anyOf": [{"type": "string"}, _STRINGS]})


@dataclass(frozen=True, slots=True)
class Key:
    """A key, as it is told of.

    :ivar path: such as ``jwt.issuer``.
    :ivar type: in words.
    :ivar schema: what JSON Schema says of it.
    :ivar default: as JSON has it.
    :ivar is_required: whether there is no default.
    :ivar unit: such as ``s``, or empty.
    :ivar meaning: in Markdown.
    """

    path: str
    type: str
    schema: Mapping[str, Any]
    default: object
    is_required: bool
    unit: str
    meaning: str

    @property
    def name(self) -> str:
        """The key in its section."""
        return self.path.rpartition(".")[2]


def sections() -> dict[str, list[Key]]:
    """The keys of each section; the name of the top is empty.

    :raises LookupError: a key has no meaning in its docstring.
    """
    found = {"": list(_keys("", Config))}
    for section, hint in get_type_hints(Config).items():
        if isinstance(hint, type) and is_dataclass(hint):
            found[section] = list(_keys(f"{section}.", hint))
    found["interceptors"] = list(_keys("interceptors.", InterceptorConfig))
    found["rules"] = list(_keys("rules.", RuleTable))
    return found


def _keys(path: str, section: type) -> Iterator[Key]:
    hints, meanings = get_type_hints(section), _meanings(section)
    for key in fields(section):
        where, hint = f"{path}{key.name}", hints[key.name]
        if hint not in _TYPES or where == "interceptors.settings":
            continue
        type_, schema = _FILE_OR_FILES if where in FILE_OR_FILES else _TYPES[hint]
        unit, meaning = meanings[key.name]
        default = _default(key)
        yield Key(
            path=where,
            type=type_,
            schema=_narrowed(where, schema),
            default=list(default) if isinstance(default, tuple) else default,
            is_required=(
                where in ("interceptors.use", "rules.destination")
                or (where in REQUIRED and not default)
            ),
            unit=unit,
            meaning=meaning,
        )


def _default(key: Field[Any]) -> Any:
    if key.default_factory is not MISSING:
        return key.default_factory()
    return "" if key.default is MISSING else key.default


def _meanings(section: type) -> dict[str, tuple[str, str]]:
    """Unit and meaning of each key of a section."""
    text = "\n".join(inspect.cleandoc(base.__doc__ or "") for base in reversed(section.__mro__))
    return {
        name: (unit, " ".join(meaning.split()).replace("``", "`"))
        for name, unit, meaning in re.findall(
            r"^:ivar (\w+): (?:\(([^)]+)\) )?(.+(?:\n[ ]+.+)*)", text, re.MULTILINE
        )
    }


def _narrowed(path: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A schema with what the checks say of a value by itself."""
    if schema.get("type") == "array":
        return {**schema, "items": _narrowed(path, schema["items"])}
    if path in CHOICES:
        return {**schema, "enum": list(CHOICES[path])}
    if schema.get("type") in ("integer", "number"):
        low, high = range_of(path)
        return {**schema, "minimum": low, "maximum": high}
    return schema


def table(section: str) -> str:
    """The keys of a section, as a table in Markdown."""
    lines = ["| Key | Type | Default | Meaning |", "|---|---|---|---|"]
    for key in sections()[section]:
        default = "required" if key.is_required else f"`{json.dumps(key.default)}`"
        type_ = f"{key.type}, {key.unit}" if key.unit else key.type
        lines.append(f"| `{key.name}` | {type_} | {default} | {key.meaning} |")
    return "\n".join(lines) + "\n"


def with_tables(page: str) -> str:
    """A page in Markdown, with the table below each heading of a section renewed.

    The heading is such as ``### `[jwt]```, or ``### At the top``.
    """
    return re.sub(
        r"^(### (?:At the top|`\[+(\w+)\]+`)\n(?:(?![|#]).*\n)*)(?:\|.*\n)+",
        lambda match: cast("str", match[1]) + table(match[2] or ""),
        page,
        flags=re.MULTILINE,
    )


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 7) of the file, for editors.

    It is about one value at a time, and less strict than the reader. Only of entries of arrays it
    says what is required: the environment may give the rest.
    """
    found = sections()
    top = found.pop("")
    properties = _properties(top)
    for name, keys in found.items():
        section: dict[str, Any] = {"type": "object", "properties": _properties(keys)}
        if name == "interceptors":
            properties[name] = {"type": "array", "items": section | {"required": ["use"]}}
            continue
        section["additionalProperties"] = False
        if name == "rules":
            section["required"] = ["destination"]
            section["anyOf"] = [{"required": ["allow"]}, {"required": ["deny"]}]
            properties[name] = {"type": "array", "items": section, "minItems": 1}
        else:
            properties[name] = section
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Configuration of stompauth",
        "type": "object",
        "properties": properties,
        "required": ["rules"],
        "additionalProperties": False,
    }


def _properties(keys: list[Key]) -> dict[str, Any]:
    return {
        key.name: {
            **key.schema,
            "description": key.meaning + (f" ({key.unit})" if key.unit else ""),
            **({} if key.is_required else {"default": key.default}),
        }
        for key in keys
    }


def schema_text() -> str:
    """The schema as its file has it."""
    return json.dumps(schema(), indent=2) + "\n"
