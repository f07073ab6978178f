"""A JSON array is split where its elements end, and nowhere else."""

from __future__ import annotations

import json
import random
import threading
import time
from typing import Any

import pytest

from service.wire.json_array import WINDOW, spans


def split(content: bytes) -> list[Any]:
    return [json.loads(content[start:end]) for start, end in spans(content)]


def some(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.randrange(8 if depth < 4 else 5)
    if kind < 5:
        return [None, True, -1.5e3, 'a "quoted" \\ ,]}[{ text \u00e6\U0001f600', ""][kind]
    if kind < 7:
        return {f'k"{number},]': some(rng, depth + 1) for number in range(rng.randrange(4))}
    return [some(rng, depth + 1) for _ in range(rng.randrange(4))]


@pytest.mark.parametrize("seed", range(20))
def test_every_array_comes_back_as_it_is(seed: int) -> None:
    rng = random.Random(seed)
    value = [some(rng) for _ in range(rng.randrange(30))]
    for content in (
        json.dumps(value).encode(),
        json.dumps(value, ensure_ascii=False, indent=1).encode(),
        b"\xef\xbb\xbf \r\n" + json.dumps(value).encode() + b"\n\t ",
    ):
        assert split(content) == value


def test_texts_and_lists_longer_than_a_step_are_whole() -> None:
    value = ["x" * 3 * WINDOW, {"a": '"' * WINDOW, "b": list(range(WINDOW // 2))}, 1]
    assert split(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "expected a JSON array"),
        (b"{}", "expected a JSON array"),
        (b"[", "no end"),
        (b"[1, 2", "no end"),
        (b'["a', "no end"),
        (b'["a\\"]', "no end"),
        (b"[[1]", "no end"),
        (b"[1} ", "expected , or ]"),
        (b"[1] 2", "trailing"),
        (b"[" * 200_000, "more than 200"),
        (b"[1" + b"]" * 9, "trailing"),
    ],
)
def test_what_is_no_array_is_refused(content: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        split(content)


@pytest.mark.parametrize("content", [b"[1,]", b"[,1]", b"[1 2]", b"[{]}]", b'["a" "b"]'])
def test_an_element_that_is_no_value_is_left_to_its_parser(content: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any of json's and ours
        split(content)


@pytest.mark.parametrize(
    "content",
    [
        b"[" + b"[[1,1,1,1,1,1]]," * (1 << 16) + b"1]",
        b'[{"a":"' + b"\\\\" * (1 << 22) + b'"}]',
        b"[{" + b'"a":1,' * (1 << 20) + b'"b":2}]',
    ],
    ids=["short elements", "backslashes", "one object"],
)
def test_others_run_while_a_long_array_is_split(content: bytes) -> None:
    longest = 0.0
    ended = threading.Event()

    def watch() -> None:
        nonlocal longest
        last = time.perf_counter()
        while not ended.wait(0.002):
            now = time.perf_counter()
            longest = max(longest, now - last)
            last = now

    thread = threading.Thread(target=watch)
    thread.start()
    assert sum(1 for _ in spans(content)) > 0
    ended.set()
    thread.join()
    assert longest < 1.0
