"""Probes as they come in: a JSON array, read one by one, however long it is."""

from __future__ import annotations

from pydantic import ValidationError
from pydantic_core import from_json

from service.errors import InvalidRequest, MalformedBody
from service.state import Probe
from service.wire.json_array import spans
from service.wire.requests import MAX_PROBES, ProbeBody
from service.wire.validation import MAX_LISTED, PlainError, plain_error, plain_errors, summary

MAX_PROBE_BYTES = 2 * 1024 * 1024
EXAMPLE = '[{"history": ["n101", "n205"], "target": "n777"}]'


def read_probes(body: bytes) -> list[Probe]:
    """Read a JSON array of probes.

    Raises:
        MalformedBody: no JSON array; InvalidRequest: with the first values that are wrong.
    """
    probes: list[Probe] = []
    wrong: list[PlainError] = []
    try:
        for place, (start, end) in enumerate(spans(body)):
            if place == MAX_PROBES:
                wrong.append(plain_error((), f"expected at most {MAX_PROBES} entries"))
            if place == MAX_PROBES or len(wrong) >= MAX_LISTED:
                break
            found = _read(body[start:end], place)
            if isinstance(found, Probe):
                probes.append(found)
            else:
                wrong += found
    except ValueError as error:
        raise MalformedBody(f"{error}; expected for example {EXAMPLE}") from error
    if wrong:
        more = "; what follows was not read" if len(wrong) >= MAX_LISTED else ""
        raise InvalidRequest(summary(wrong) + more, wrong[:MAX_LISTED])
    return probes


def _read(content: bytes, place: int) -> Probe | list[PlainError]:
    """Read a probe, or return what is wrong with it.

    Raises:
        ValueError: it is no JSON.
    """
    if len(content) > MAX_PROBE_BYTES:
        return [plain_error((place,), f"{len(content)} bytes, at most {MAX_PROBE_BYTES} are read")]
    try:
        one = ProbeBody.model_validate_json(content)
    except ValidationError as error:
        found = error.errors(include_url=False)
        if found[0]["type"] == "json_invalid":
            raise ValueError(f"probe {place}: {found[0]['msg']}") from error
        placed = [{**each, "loc": (place, *each["loc"])} for each in found]
        return plain_errors(placed, {place: from_json(content)})
    return Probe(one.history, one.target)
