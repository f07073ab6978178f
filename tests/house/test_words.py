"""Names are the field's words: those of the private idiom that was here first do not come back."""

from __future__ import annotations

import io
import keyword
import re
import tokenize
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("transrec", "adapters_store", "service", "training", "swaprec", "benchmarks")


class Refused(NamedTuple):
    """Old words, what is written instead, and the folders or files where they are refused."""

    words: tuple[str, ...]
    instead: str
    places: tuple[str, ...] = PACKAGES


REFUSED = [
    Refused(("born",), "incarnation"),
    Refused(("standing", "standings"), "Deployment, Store.current()"),
    Refused(("stands",), "activation", ("service", "adapters_store")),
    Refused(("rests", "rested", "resting"), "evict, is_evicted, Evicted", ("service",)),
    Refused(("idlest",), "least_recent"),
    Refused(("revive", "revived"), "restore"),
    Refused(("spoil", "spoils", "spoiled"), "invalidate"),
    # These are everyday words elsewhere: the rest of a text, a thread that is woken, a file that is
    # kept.
    Refused(("rest",), "evict", ("service/live",)),
    Refused(("wake", "wakes", "woken"), "load", ("service/live",)),
    Refused(("kept",), "cached", ("service/live",)),
    Refused(("asked",), "touch", ("service/live",)),
    Refused(("settle", "settled", "settling"), "enforce_budget", ("service/live",)),
    # Elsewhere a fold may be one of a cross-validation.
    Refused(
        ("fold", "folds", "folded", "unfolded"),
        "compact, Compactor, compaction",
        ("service", "swaprec"),
    ),
    Refused(("brought", "flipped"), "a verb in its base form", ("service",)),
    Refused(
        ("told", "tell", "tells"),
        "on_progress, visibility, message",
        ("service", "swaprec", "training"),
    ),
    Refused(("withdrawal", "withdrawals", "withdrawn"), "removals, removed"),
    Refused(("patiently",), "retry_until_available"),
    Refused(("despite",), "tolerate"),
    Refused(("worn", "wearers", "dress", "dressed"), "BoundAdapter, arrange, rows_by_slot"),
    Refused(("intake",), "ItemReader"),
    Refused(("judge", "judged"), "GateRunner, run_gate", ("service",)),
    Refused(("elsewhere",), "in_worker", ("service",)),
    Refused(("beside",), "a name of what it is: temporary, concat_…, atomic_…"),
]
"""Serialized names (SQL columns,
Redis fields, kinds of jobs) are strings, not names, and stay as they are.
"""

ALLOWED = {
    ("service/live/follower.py", "wake"): "Jobs.wake() wakes a thread that waits for jobs",
}
"""Names that hold a refused word all the same, by file, and why."""


def names_in(source: str) -> set[str]:
    """Return all identifiers of a module: what it defines and what it uses."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {
        token.string
        for token in tokens
        if token.type == tokenize.NAME and not keyword.iskeyword(token.string)
    }


def words_of(name: str) -> list[str]:
    """Split a name at underscores and capitals: `LiveDomain` and `live_domain` are two words."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def refused_in(path: str, source: str) -> list[str]:
    here = {
        word: refused.instead
        for refused in REFUSED
        if any(path == place or path.startswith(f"{place}/") for place in refused.places)
        for word in refused.words
    }
    return [
        f"{path}: {name}: {word!r} is refused, write {here[word]}"
        for name in sorted(names_in(source))
        for word in dict.fromkeys(words_of(name))
        if word in here and (path, name) not in ALLOWED
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_names_are_the_fields_words(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files, f"there is no package {package}"
    found = [
        one
        for file in files
        for one in refused_in(file.relative_to(ROOT).as_posix(), file.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


def test_a_refused_word_is_found_in_every_kind_of_name_and_in_no_text() -> None:
    source = (
        'class _Standing:\n    """A standing."""\n\n    born_at = "born"\n\n    def checkBorn(self,'
        " FOLD_ROWS): ...\n"
    )
    found = refused_in("service/live/x.py", source)
    assert [one.split(": ")[1] for one in found] == [
        "FOLD_ROWS",
        "_Standing",
        "born_at",
        "checkBorn",
    ]


def test_everyday_words_are_refused_only_where_they_had_another_meaning() -> None:
    assert refused_in("service/live/table.py", "kept = rest = 1\n")
    assert not refused_in("training/data.py", "kept = rest = 1\n")


def test_an_exception_is_needed() -> None:
    for path, name in ALLOWED:
        assert name in names_in((ROOT / path).read_text(encoding="utf-8")), (
            f"{path} has no {name} any more"
        )
