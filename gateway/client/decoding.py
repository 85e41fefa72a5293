"""From a JSON object to a record, by the record's annotations. Pure.

Tolerant of what is new (a field that the record has not is left aside), strict about what is promised.
"""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from gateway.client.errors import BadAnswer

T = TypeVar("T")


def decode(kind: type[T], data: object, what: str) -> T:
    """The record that ``data`` is.

    Args:
        kind: A dataclass of str, int, float, bool, datetime, StrEnum, other such dataclasses, tuples and
            dicts of these, or None.
        what: Its name in error messages.

    Raises:
        BadAnswer
    """
    if not isinstance(data, dict):
        raise _unusable(what)
    hints = get_type_hints(kind)
    return kind(
        **{
            field.name: _value(hints[field.name], data.get(field.name), f"{what}'s {field.name}")
            for field in dataclasses.fields(kind)  # type: ignore[arg-type]  # a dataclass, as promised
            if field.name in data or field.default is dataclasses.MISSING
        }
    )


def _value(hint: Any, value: object, what: str) -> object:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is UnionType:  # of one type and None
        return None if value is None else _value(next(h for h in inner if h is not NoneType), value, what)
    if origin is tuple and isinstance(value, list):
        return tuple(_value(inner[0], item, what) for item in value)
    if origin is dict and isinstance(value, dict):
        return {name: _value(inner[1], item, what) for name, item in value.items()}
    if dataclasses.is_dataclass(hint):
        return decode(hint, value, what)  # type: ignore[arg-type]  # hint is a class
    try:
        return _plain(hint, value)
    except (ValueError, TypeError, OverflowError) as exc:
        raise _unusable(what) from exc


def _plain(hint: Any, value: object) -> object:
    if hint is float and isinstance(value, int):
        return float(value)
    if isinstance(value, str) and hint is datetime:
        moment = datetime.fromisoformat(value)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if isinstance(value, str) and issubclass(hint, StrEnum):
        return hint(value)
    if not isinstance(value, hint):
        raise TypeError
    return value


def _unusable(what: str) -> BadAnswer:
    return BadAnswer(f"the answer has no usable {what}: is this the transcription service?")
