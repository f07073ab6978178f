"""From pydantic's errors to plain ones: the place as the client wrote it, what was given, and what
is expected.

Alternatives of a union are tagged in the schemas (`|id`, `|list`, `|object:item_id`): of those that
fail, only the one is explained that the value looks like. Nothing of this runs where a body is
valid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from adapters_store.quoting import quote
from service.errors import InvalidRequest

TAG = "|"
FAST_TAG = "|fast"
"""An alternative that only makes the usual case fast; another one says what is wrong."""
MAX_LISTED = 50
"""Errors that an answer lists; all are counted."""

ErrorPlace = tuple[int | str, ...]
PlainError = dict[str, Any]


def plain_errors(
    errors: Sequence[Mapping[str, Any]], value: object, fields: Sequence[str] = ()
) -> list[PlainError]:
    """Return one error `{loc, msg}` for each wrong value.

    Args:
        errors: pydantic's, as `ValidationError.errors` returns them.
        value: what was validated, as JSON.
        fields: names that the outermost object may have.
    """
    groups: dict[ErrorPlace, list[Mapping[str, Any]]] = {}
    for error in errors:
        groups.setdefault(_before_tag(error["loc"]), []).append(error)
    found: list[PlainError] = []
    for place, group in groups.items():
        given = _at(value, place)
        for error in _most_fitting(group, len(place), given):
            loc = tuple(part for part in error["loc"] if not _is_tag(part))
            sentence = _sentence(
                error, loc, error.get("input") if value is None else _at(value, loc), fields
            )
            found.append({"loc": list(loc), "msg": sentence})
    return found


def plain_error(loc: Sequence[int | str], reason: str) -> PlainError:
    """Return an error of a place that is no fault of its form."""
    return {"loc": list(loc), "msg": f"{path(loc)}: {reason}"}


def invalid_request(found: Sequence[PlainError]) -> InvalidRequest:
    """Return the error of a body with wrong values: how many, and the first of them."""
    return InvalidRequest(summary(found), found[:MAX_LISTED])


def summary(found: Sequence[PlainError]) -> str:
    """Return the detail of an answer: the error itself where there is one, else how many."""
    first: str = found[0]["msg"]
    return (
        first
        if len(found) == 1
        else f"{len(found):,} values are not as expected; the first: {first}"
    )


def path(loc: Sequence[int | str]) -> str:
    """Write a place as a client would: `history[0].item_id`."""
    shown = ""
    for part in loc:
        shown += (
            f"[{part}]" if isinstance(part, int) else f".{_name(part)}" if shown else _name(part)
        )
    return shown or "the body"


def _name(part: str) -> str:
    return part if part.isidentifier() else quote(part)


def _is_tag(part: object) -> bool:
    return isinstance(part, str) and part.startswith(TAG)


def _before_tag(loc: ErrorPlace) -> ErrorPlace:
    """Return the place of the outermost union that an error lies in, or the error's own."""
    tags = [depth for depth, part in enumerate(loc) if _is_tag(part)]
    return loc[: tags[0]] if tags else loc


def _at(value: Any, loc: ErrorPlace) -> Any:
    """Return what stands at a place, None where there is none."""
    for part in loc:
        is_there = (
            part in value
            if isinstance(value, dict)
            else isinstance(value, list) and part in range(len(value))
        )
        if not is_there:
            return None
        value = value[part]
    return value


def _most_fitting(
    group: list[Mapping[str, Any]], depth: int, given: object
) -> list[Mapping[str, Any]]:
    """Return the errors of the alternative that a value looks like;
    a single one where it looks like none.
    """
    if not any(len(error["loc"]) > depth and _is_tag(error["loc"][depth]) for error in group):
        return group
    branches: dict[str, list[Mapping[str, Any]]] = {}
    for error in group:
        branches.setdefault(error["loc"][depth], []).append(error)
    named = [tag for tag in branches if _looks_like(given, tag)]
    if not named:
        return [
            {
                **group[0],
                "loc": group[0]["loc"][:depth],
                "type": "union",
                "ctx": {"tags": list(branches)},
            }
        ]
    chosen = branches[named[0]]
    inner = [error for error in chosen if not _is_root_mismatch(error, depth)]
    if not inner:
        return [
            {
                **chosen[-1],
                "loc": chosen[-1]["loc"][:depth],
                "type": "union",
                "ctx": {"tags": list(branches)},
            }
        ]
    return _unnested(inner, depth + 1, given)


def _unnested(
    errors: list[Mapping[str, Any]], depth: int, given: object
) -> list[Mapping[str, Any]]:
    """Do the same for unions further inside."""
    places: dict[ErrorPlace, list[Mapping[str, Any]]] = {}
    for error in errors:
        loc = error["loc"]
        tags = [place for place in range(depth, len(loc)) if _is_tag(loc[place])]
        places.setdefault(loc[: tags[0]] if tags else loc, []).append(error)
    found: list[Mapping[str, Any]] = []
    for place, group in places.items():
        inner = _at(given, tuple(part for part in place[depth:] if not _is_tag(part)))
        found += _most_fitting(group, len(place), inner)
    return found


def _is_root_mismatch(error: Mapping[str, Any], depth: int) -> bool:
    return all(map(_is_tag, error["loc"][depth:])) and error["type"] in MISMATCHES


def _looks_like(given: object, tag: str) -> bool:
    kind, _, keys = tag.removeprefix(TAG).partition(":")
    if _KIND_OF.get(kind, kind) != _kind(given):
        return False
    return not keys or (isinstance(given, dict) and any(key in given for key in keys.split(",")))


def _kind(value: object) -> str:
    for kind, name in _KINDS:
        if isinstance(value, kind):
            return name
    return "null" if value is None else "value"


_KIND_OF = {"id": "text", "whole number": "number"}
"""What the value of a tag's kind is."""

_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "true or false"),
    (int, "number"),
    (float, "number"),
    (str, "text"),
    (list, "list"),
    (dict, "object"),
)


def _sentence(
    error: Mapping[str, Any], loc: ErrorPlace, given: object, fields: Sequence[str]
) -> str:
    kind = error["type"]
    context = error.get("ctx", {})
    subject = path(loc[1:] if loc[:1] in (("query",), ("path",)) else loc)
    if kind == "missing":
        return f"{subject} is missing"
    if kind == "extra_forbidden":
        return f"{subject} is no field here{_expected_fields(loc, fields)}"
    if kind in ("value_error", "assertion_error"):
        return f"{subject}: {context.get('error') or error['msg']}"
    if kind == "union" and f"{TAG}id" in context["tags"] and _kind(given) == "number":
        return f'{subject} is {quote(given)}, a number: ids are text, send "{quote(given)}"'
    expect = _EXPECTED.get(kind)
    expected = str(error["msg"]) if expect is None else expect(given, context)
    return f"{subject} is {_shown(given)}: expected {expected}"


def _shown(given: object) -> str:
    if isinstance(given, (list, dict)):
        what = "a list" if isinstance(given, list) else "an object"
        return f"{what} of {len(given)}" if given else f"an empty {what.split()[1]}"
    if isinstance(given, str) and len(given) > len(quote(given)):
        return f"{quote(given)} ({len(given)} characters)"
    return quote(given)


def _expected_fields(loc: ErrorPlace, fields: Sequence[str]) -> str:
    if len(loc) != 1 or not fields:
        return ""
    near = get_close_matches(str(loc[0]), fields, 1)
    return f": did you mean {near[0]}?" if near else f": expected {', '.join(fields)}"


def _either(_: object, context: Mapping[str, Any]) -> str:
    shown = [tag for tag in context["tags"] if tag != FAST_TAG]
    return ", or ".join(dict.fromkeys(map(_alternative, shown)))


def _alternative(tag: str) -> str:
    kind, _, keys = tag.removeprefix(TAG).partition(":")
    if kind == "text" and keys:
        return quote(keys)
    names = {"id": "an id", "object": "an object", "text": "text"}
    named = names.get(kind, f"a {kind}")
    return f"{named} with {' or '.join(keys.split(','))}" if keys else named


def _text(given: object, _: Mapping[str, Any]) -> str:
    return f'text, such as "{quote(given)}"' if _kind(given) == "number" else "text"


def _whole(_: object, __: Mapping[str, Any]) -> str:
    return "a whole number"


def _number(_: object, __: Mapping[str, Any]) -> str:
    return "a number"


def _flag(_: object, __: Mapping[str, Any]) -> str:
    return "true or false"


def _list(_: object, __: Mapping[str, Any]) -> str:
    return "a list"


def _object(_: object, __: Mapping[str, Any]) -> str:
    return "an object"


def _bound(
    words: str, name: str, one: str = "", more: str = ""
) -> Callable[[object, Mapping[str, Any]], str]:
    def expected(_: object, context: Mapping[str, Any]) -> str:
        limit = context[name]
        number = f"{limit:g}" if isinstance(limit, float) else str(limit)
        return f"{words} {number} {one if limit == 1 else more}".rstrip()

    return expected


def _literal(_: object, context: Mapping[str, Any]) -> str:
    return str(context["expected"]).replace("'", '"')


def _pattern(_: object, context: Mapping[str, Any]) -> str:
    return f"text that matches {context['pattern']}"


_EXPECTED: dict[str, Callable[[object, Mapping[str, Any]], str]] = {
    "union": _either,
    "string_type": _text,
    "string_unicode": _text,
    "string_too_short": _bound("at least", "min_length", "character", "characters"),
    "string_too_long": _bound("at most", "max_length", "character", "characters"),
    "string_pattern_mismatch": _pattern,
    "int_type": _whole,
    "int_parsing": _whole,
    "int_parsing_size": _whole,
    "int_from_float": _whole,
    "float_type": _number,
    "float_parsing": _number,
    "finite_number": _number,
    "bool_type": _flag,
    "bool_parsing": _flag,
    "list_type": _list,
    "dict_type": _object,
    "model_type": _object,
    "model_attributes_type": _object,
    "too_long": _bound("at most", "max_length", "item", "items"),
    "too_short": _bound("at least", "min_length", "item", "items"),
    "greater_than_equal": _bound("at least", "ge"),
    "greater_than": _bound("more than", "gt"),
    "less_than_equal": _bound("at most", "le"),
    "less_than": _bound("less than", "lt"),
    "literal_error": _literal,
}

MISMATCHES = {name for name in _EXPECTED if name.endswith(("_type", "_parsing", "_from_float"))} | {
    "literal_error"
}
"""Errors that say of a whole value that it is of another kind."""
