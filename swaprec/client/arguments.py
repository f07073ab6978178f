"""What the client checks of its arguments before anything is sent,
as the service would: ids, histories, lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

from adapters_store.names import check_id
from adapters_store.quoting import quote
from swaprec.errors import Unsendable

HistoryValue = str | Mapping[str, Any]
"""An item's id, or `{"text": …}`, `{"image_b64": …}` or both for what no catalog has."""


def unsendable(message: str) -> Unsendable:
    """Return the error of an argument, as the service would answer it."""
    errors = [{"loc": [], "msg": message}]
    return Unsendable(
        {"status": 422, "code": "invalid_request", "detail": message, "errors": errors}
    )


def unencodable(name: str, value: str, error: UnicodeEncodeError) -> Unsendable:
    """Return the error of a text that has no form in UTF-8."""
    code = f"U+{ord(value[error.start]):04X}"
    return unsendable(
        f"{name}: {quote(value)} has {code} at {error.start}: half a surrogate pair is no Unicode"
        " text"
    )


def check_encodable(value: object, name: str) -> None:
    """Check that all texts of a body or of parameters have a form in UTF-8.

    Raises:
        Unsendable: one has none; names it and its place.
    """
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise unencodable(name, value, error) from error
    elif isinstance(value, Mapping):
        for key, one in value.items():
            check_encodable(key, f"a name in {name}" if name else "a name")
            check_encodable(one, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for place, one in enumerate(value):
            check_encodable(one, f"{name}[{place}]")


def checked_id(value: object, name: str) -> str:
    """Return an id.

    Raises:
        Unsendable: it is none.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        raise unsendable(f'{name} is {quote(value)}, a number: ids are text, send "{quote(value)}"')
    try:
        return check_id(value)
    except ValueError as error:
        raise unsendable(f"{name}: {error}") from error


def entry(given: object, name: str) -> HistoryValue:
    """Return an id, or what stands for an item; a date or datetime in it as ISO text.

    Raises:
        Unsendable: it is neither.
    """
    if not isinstance(given, Mapping):
        return checked_id(given, name)
    if "item_id" in given:
        checked_id(given["item_id"], f"{name}.item_id")
    if isinstance(timestamp := given.get("timestamp"), date):
        return {**given, "timestamp": timestamp.isoformat()}
    return given


def entries(given: Iterable[HistoryValue], name: str) -> list[HistoryValue]:
    """Return a list of ids and of what stands for items.

    Raises:
        Unsendable: it is no list, or one of them is none.
    """
    listed = as_list(given, name, f"[{quote(given)}]" if isinstance(given, str) else '["1", "2"]')
    return [entry(one, f"{name}[{place}]") for place, one in enumerate(listed)]


def as_list(given: Any, name: str, example: str) -> list[Any]:
    """Return the members of a list, a tuple or what yields them; a text is not taken for a list of
    its letters.

    Raises:
        Unsendable: it is one, or has no order.
    """
    if isinstance(given, (str, bytes, Mapping, set, frozenset)) or not isinstance(given, Iterable):
        raise unsendable(f"{name} is {quote(given)}: expected a list, for example {example}")
    return list(given)


def check_wishes(wishes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return further fields of a recommendation whose ids are ids.

    Raises:
        Unsendable: one is none.
    """
    if wishes.get("user_id") is not None:
        checked_id(wishes["user_id"], "user_id")
    excluded = wishes.get("exclude")
    if isinstance(excluded, Mapping) and "item_ids" in excluded:
        ids = [
            checked_id(one, f"exclude.item_ids[{n}]")
            for n, one in enumerate(_ids(excluded["item_ids"]))
        ]
        return {**wishes, "exclude": {**excluded, "item_ids": ids}}
    return wishes


def _ids(given: object) -> list[Any]:
    return as_list(
        sorted(given) if isinstance(given, (set, frozenset)) else given,
        "exclude.item_ids",
        '["1", "2"]',
    )


def check_probes(probes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return probes whose histories and targets are ids.

    Raises:
        Unsendable: one is none.
    """
    listed = as_list(probes, "probes", '[{"history": ["1"], "target": "2"}]')
    for place, probe in enumerate(listed):
        if isinstance(probe, Mapping) and "history" in probe:
            entries(probe["history"], f"probes[{place}].history")
        if isinstance(probe, Mapping) and "target" in probe:
            checked_id(probe["target"], f"probes[{place}].target")
    return listed
