"""Bodies into Python values, and back."""

from __future__ import annotations

import dataclasses
import json
import types
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_SCALARS = (str, int, float, bool, type(None))


class BodyMismatch(ValueError):
    """A body that is not what a handler takes; the text says where, and quotes nothing of it."""


def check_type(wanted: Any) -> None:
    """Make sure that bodies can be converted to a type.

    :raises TypeError: they cannot.
    """
    if wanted is not bytes:
        _check_json(wanted, ())


def _check_json(wanted: Any, within: tuple[type, ...]) -> None:
    origin, arguments = get_origin(wanted), get_args(wanted)
    if wanted in (Any, dict, list, *_SCALARS) or wanted is None or origin is Literal:
        return
    if origin in (Union, types.UnionType, list) or (origin is dict and arguments[0] is str):
        for argument in arguments:
            _check_json(argument, within)
        return
    if isinstance(wanted, type) and dataclasses.is_dataclass(wanted):
        if wanted in within:
            raise TypeError(f"{wanted.__qualname__} holds its own kind, to any depth")
        for hint in get_type_hints(wanted).values():
            _check_json(hint, (*within, wanted))
        return
    inside = f" in {within[-1].__qualname__}" if within else ""
    raise TypeError(f"no JSON can be converted to {wanted!r}{inside}")


def from_body(body: bytes, wanted: Any) -> Any:
    """Convert the body of a SEND.

    :param wanted: ``bytes`` for the octets, ``str`` for text in UTF-8; everything else is read as
        JSON: a dataclass from an object, field by field, as well as ``dict``, ``list``, scalars,
        ``list[...]``, ``dict[str, ...]``, unions and ``Literal``.
    :raises BodyMismatch: the body does not fit.
    """
    if wanted is bytes:
        return body
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise BodyMismatch("the body is not UTF-8") from None
    if wanted is str:
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise BodyMismatch("the body is not JSON") from None
    return _fit(value, wanted, "the body")


def to_body(result: Any) -> tuple[bytes, str]:
    """Convert what a handler returned.

    :return: the octets and their content type: as they are for ``bytes``, text for ``str``, JSON
        for everything else, dataclasses included.
    :raises TypeError: it is nothing that JSON has.
    """
    if isinstance(result, bytes):
        return result, "application/octet-stream"
    if isinstance(result, str):
        return result.encode(), "text/plain;charset=utf-8"
    return json.dumps(result, default=_as_json, allow_nan=False).encode(), "application/json"


def _as_json(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise TypeError(f"{type(value).__qualname__} is nothing that JSON has")


def _fit(value: Any, wanted: Any, where: str) -> Any:
    origin, arguments = get_origin(wanted), get_args(wanted)
    if wanted is Any:
        return value
    if origin in (Union, types.UnionType):
        for argument in arguments:
            try:
                return _fit(value, argument, where)
            except BodyMismatch:
                continue
        raise BodyMismatch(f"{where} is of none of the types that it may be")
    if origin is Literal:
        # True == 1, and neither stands for the other in JSON.
        if not any(type(value) is type(choice) and value == choice for choice in arguments):
            raise BodyMismatch(f"{where} is none of the values that it may be")
        return value
    if isinstance(wanted, type) and dataclasses.is_dataclass(wanted):
        return _fit_dataclass(value, wanted, where)
    if wanted is list or origin is list:
        _expect(value, list, where)
        element = arguments[0] if arguments else Any
        return [_fit(item, element, f"{where}[{n}]") for n, item in enumerate(value)]
    if wanted is dict or origin is dict:
        _expect(value, dict, where)
        element = arguments[1] if arguments else Any
        return {name: _fit(item, element, f"a member of {where}") for name, item in value.items()}
    if wanted is float and type(value) is int:
        return float(value)
    _expect(value, type(None) if wanted is None else wanted, where)
    return value


def _fit_dataclass(value: Any, wanted: type, where: str) -> Any:
    _expect(value, dict, where)
    hints = get_type_hints(wanted)
    fields = {field.name: field for field in dataclasses.fields(wanted) if field.init}
    if not value.keys() <= fields.keys():
        raise BodyMismatch(f"{where} has a member that is not known")
    arguments = {}
    for name, field in fields.items():
        if name in value:
            arguments[name] = _fit(value[name], hints[name], f"{where}: {name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise BodyMismatch(f"{where}: {name} is missing")
    try:
        return wanted(**arguments)
    except ValueError:
        raise BodyMismatch(f"{where} has values that do not go together") from None


_NAMES: dict[type, str] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    dict: "an object",
    list: "an array",
}


def _expect(value: Any, wanted: type, where: str) -> None:
    # bool is an int to Python, and not to JSON.
    if type(value) is not wanted:
        raise BodyMismatch(f"{where} is not {_NAMES.get(wanted, 'null')}")
