"""The domain `adressa` of the demo: invented headlines and a synthetic log, made here and named as
such.

The log of the real newspaper cannot be shipped. What stands in its place has the same shape: short
headlines in sections, and readers who follow a story, then look at another one. Figures on it say
that serving works, and nothing about any newspaper.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import polars as pl

from training.cleaning import clean
from training.importers import canonical
from training.importers.tables import Tables

TITLE = "Invented headlines and a synthetic log, in place of adressa"
NOUN = "invented headlines"
ORIGIN = "invented"
READERS = 1_500
SHORTEST_VISIT = 5
LONGEST_VISIT = 24
FAVOURITES = 2
FOLLOW_STORY = 0.55
FAVOURITE_SECTION = 0.85
SECONDS_BETWEEN = 600
SEED = 7


@dataclass(frozen=True, slots=True)
class Headline:
    """A headline, the section it stands in, and the number of the story that it continues."""

    item_id: str
    title: str
    section: str
    story: int


def headlines() -> list[Headline]:
    """Return all headlines, story by story; the ids are `n1`, `n2` and so on."""
    text = resources.files("swaprec").joinpath("invented_news.toml").read_text("utf-8")
    made: list[Headline] = []
    stories = 0
    for arc in tomllib.loads(text)["arc"]:
        for subject in arc["subjects"]:
            for line in arc["lines"]:
                title = line.format(subject)
                title = title[0].upper() + title[1:]
                made.append(Headline(f"n{len(made) + 1}", title, arc["section"], stories))
            stories += 1
    return made


def write(folder: Path) -> Path:
    """Write the headlines and the log in the canonical form,
    unless they are there; returns the folder.
    """
    if not (folder / "interactions.parquet").is_file():
        canonical.write(clean(tables()), folder)
    return folder


def tables() -> Tables:
    """Make the catalog and the log; the same on every call."""
    news = headlines()
    items = pl.DataFrame(
        {
            "item_id": [one.item_id for one in news],
            "title": [one.title for one in news],
            "category": [one.section for one in news],
            "origin": [ORIGIN] * len(news),
        }
    )
    rows = list(_log(news))
    schema = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64}
    return Tables(items, pl.DataFrame(rows, schema=schema, orient="row"))


def _log(news: list[Headline]) -> Iterator[tuple[str, str, int]]:
    """Yield the visits of every synthetic reader, oldest first."""
    random = np.random.default_rng(SEED)
    sections = sorted({one.section for one in news})
    for reader in range(READERS):
        favourites = random.choice(sections, FAVOURITES, replace=False).tolist()
        length = int(random.integers(SHORTEST_VISIT, LONGEST_VISIT + 1))
        for step, place in enumerate(_walk(news, favourites, length, random)):
            second = (reader + 1) * LONGEST_VISIT * SECONDS_BETWEEN + step * SECONDS_BETWEEN
            yield f"synthetic-{reader + 1}", news[place].item_id, second


def _walk(
    news: list[Headline], favourites: list[str], length: int, random: np.random.Generator
) -> list[int]:
    """Choose the headlines of one reader:
    the next of a story, or another of a favourite section, or any.
    """
    popularity = _popularity(len(news))
    preferred = np.array([one.section in favourites for one in news])
    seen: list[int] = []
    while len(seen) < length:
        following = seen[-1] + 1 if seen else len(news)
        continues = following < len(news) and news[following].story == news[seen[-1]].story
        if continues and following not in seen and random.random() < FOLLOW_STORY:
            seen.append(following)
            continue
        weights = popularity.copy()
        weights[seen] = 0
        if random.random() < FAVOURITE_SECTION:
            weights = weights * preferred
        if weights.sum() == 0:
            break
        seen.append(int(random.choice(len(news), p=weights / weights.sum())))
    return seen


def _popularity(count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return how often each headline is looked at: a long tail, in an order of its own."""
    ranks = np.random.default_rng(SEED).permutation(count) + 10
    return 1.0 / ranks
