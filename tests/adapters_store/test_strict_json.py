from __future__ import annotations

import pytest

from adapters_store.quoting import MAX_QUOTED, quote
from adapters_store.strict_json import MAX_COMMAS, MAX_DEPTH, check_value, parse_object


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": -Infinity}', "-Infinity is not JSON"),
        ('{"a": 1e400}', "not finite"),
        ('{"a": ' + "1" * 20 + "}", "more than 19 digits"),
        ('{"a": 0.' + "1" * 100 + "}", "too long"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', '"c" is there twice'),
        ('{"a": "\\ud800"}', "half a surrogate pair"),
        ('{"\\u0000": 1}', "control character"),
        ('{"a": ' + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "}", f"more than {MAX_DEPTH} levels"),
        ('{"a": ' + "[" * 10**6, f"more than {MAX_DEPTH} levels"),
        ('{"a": [' + "0," * (MAX_COMMAS + 1) + "0]}", f"more than {MAX_COMMAS} commas"),
        ("[]", "not a JSON object"),
        ("{", "it is not JSON"),
        (b"\xff\xfe{\0}\0", "not UTF-8: byte 0 is 0xff"),
        ("\ufeff{}", "it is not JSON"),
    ],
    ids=range(15),
)
def test_what_other_readers_stumble_over_is_refused_with_a_short_reason(
    text: str | bytes, says: str
) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        parse_object(text)
    assert len(str(caught.value)) < 200


def test_plain_json_is_read_as_it_is() -> None:
    text = '{"a": [1, -2.5, true, null, "é✓\\u00e9\\ud83c\\udfac\\n"], "b": {"c": {}}}'
    assert parse_object(text) == {"a": [1, -2.5, True, None, "é✓é🎬\n"], "b": {"c": {}}}


@pytest.mark.parametrize("value", [float("nan"), {"a": [float("inf")]}, 10**19, {"a": "\ud800"}])
def test_a_value_that_was_parsed_elsewhere_is_checked_too(value: object) -> None:
    with pytest.raises(ValueError, match=r"finite|digits|surrogate"):
        check_value(value)


@pytest.mark.parametrize(
    "value", ["x" * 10**6, list(range(10**6)), {n: n for n in range(10**4)}, "\ud800é🎬" * 99]
)
def test_a_quoted_value_is_short_and_printable(value: object) -> None:
    assert len(quote(value)) <= MAX_QUOTED
    assert quote(value).isprintable()
