"""Items that are loaded, imported and published:
rejected rows are reported, counted, and end in another exit code.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, cast

import polars as pl
import pytest
from rich.console import Console

from swaprec.client import AsyncClient, Client
from swaprec.errors import REJECTED, USAGE, Malformed, Stop
from swaprec.import_report import print_report
from swaprec.publish import HandOver, handover, publish, to_folder
from tests.swaprec.conftest import World
from tests.swaprec.test_cli import swaprec


@pytest.fixture
def films(client: Client) -> Client:
    """A service with an empty domain `films`."""
    client.put_domain("films")
    return client


def test_an_id_with_a_newline_does_not_break_the_line_that_names_it() -> None:
    console = Console(file=io.StringIO(), width=200)
    kind = {"count": 1, "index": 0, "item_id": "a\n", "detail": "no"}
    print_report(cast("Any", {"rejected_kinds": {"x": kind}}), console)
    assert cast("io.StringIO", console.file).getvalue() == "not loaded: row 0 ('a\\n'): no\n"


MIXED: list[Any] = [
    {"item_id": 1, "title": "One", "price": float("nan")},
    {
        "item_id": "2",
        "title": "Two",
        "attributes": {"price": float("nan"), "released": date(2020, 1, 2)},
    },
    {"item_id": "3", "title": object()},
    "4",
    {"item_id": "5"},
    {"item_id": "6", "title": "Six", "popularity": -1},
    {"item_id": "7", "title": 7},
]


def check_mixed(report: Any, items: Sequence[Mapping[str, Any]]) -> None:
    assert (report["accepted"], report["rejected_count"]) == (2, 5)
    assert [(row["index"], row["code"]) for row in report["rejected"]] == [
        (0, "invalid_item"),
        (2, "unsendable_row"),
        (3, "unsendable_row"),
        (4, "invalid_item"),
        (5, "invalid_item"),
    ]
    assert sum(kind["count"] for kind in report["rejected_kinds"].values()) == 5
    assert {kind["index"] for kind in report["rejected_kinds"].values()} == {0, 2, 4, 5}
    assert [item["item_id"] for item in items] == ["2", "7"]
    assert items[0]["metadata"] == {"title": "Two", "released": "2020-01-02"}


def test_rows_that_cannot_be_sent_are_in_the_report_under_their_own_numbers(films: Client) -> None:
    report = films.import_items("films", MIXED)
    check_mixed(report, list(films.items("films")))


@pytest.mark.parametrize("streams", [False, True])
def test_the_asynchronous_client_reports_the_same(films: Client, streams: bool) -> None:
    async def rows() -> AsyncIterator[Any]:
        for row in MIXED:
            yield row

    async def load() -> Any:
        async with AsyncClient(films.url) as client:
            return await client.import_items("films", rows() if streams else MIXED)

    check_mixed(asyncio.run(load()), list(films.items("films")))


@pytest.mark.parametrize(
    "given",
    [{"item_id": "a"}, "a", pl.DataFrame({"item_id": ["a"]}), 3],
    ids=lambda one: str(type(one)),
)
def test_what_holds_no_rows_is_refused_plainly_before_anything_is_sent(
    films: Client, given: Any
) -> None:
    with pytest.raises(TypeError, match="items: "):
        films.import_items("films", given)
    assert films.jobs("films") == []


def test_a_single_item_is_sent_as_rows_are(films: Client) -> None:
    films.put_item(
        "films",
        "a",
        {"title": 1984, "attributes": {"price": float("nan"), "released": date(2020, 1, 2)}},
    )
    assert films.item("films", "a")["metadata"] == {"title": "1984", "released": "2020-01-02"}
    with pytest.raises(ValueError, match=r"title: .* has no form in JSON"):
        films.put_item("films", "a", {"title": object()})


def test_a_file_with_rejected_rows_is_loaded_and_ends_in_its_own_code(
    films: Client, tmp_path: Path
) -> None:
    lines = [
        "item_id,title,popularity,available",
        "a,Storm,1,no",
        "b,,1,",
        "c,x,-1,",
        "d,x,-2,",
        'e,"x,1,',
        "f,x,1,so",
    ]
    (tmp_path / "x.csv").write_text("\n".join(lines) + "\n")
    done = swaprec("items", "load", "films", tmp_path / "x.csv", "--url", films.url)
    assert (done.returncode, done.stdout) == (
        REJECTED,
        "1 accepted, 0 updated, 0 unchanged, 5 rejected\n",
    )
    printed = " ".join(done.stderr.split())
    assert "(c): popularity is -1.0: expected at least 0" in printed
    assert "and 1 more like it" in printed
    assert "not loaded: 1 row: available: expected true, false" in printed
    assert "5 of 6 rows" in printed
    assert printed.index("not loaded") < printed.index("error:")
    assert films.item("films", "a")["available"] is False


def test_rows_that_repeat_an_id_are_counted_with_their_lines_and_the_last_one_is_stored(
    films: Client, tmp_path: Path
) -> None:
    rows = ["a,One", "b,Two", "a,Three", "b,Four", "b,Five", "b,Six"]
    (tmp_path / "x.csv").write_text("item_id,title\n" + "\n".join(rows) + "\n")
    done = swaprec("items", "load", "films", tmp_path / "x.csv", "--url", films.url)
    assert done.returncode == 0
    said = " ".join(done.stderr.split())
    assert "4 rows repeat the id of an earlier row; the last row of an id is stored" in said
    assert [f"x.csv, line {number}" in said for number in (4, 5, 6, 7)] == [True, True, True, False]
    assert [films.item("films", item_id)["text"] for item_id in "ab"] == ["Three", "Six"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("item_id,title\na,\nb,\n", "all 2 rows were rejected"),
        ("item_id,title\n", "a header and no rows"),
        ("", "nothing in it"),
        ('item_id,title\na,"b\n', "the only row was rejected"),
    ],
)
def test_a_file_of_which_nothing_is_loaded_is_an_error(
    films: Client, tmp_path: Path, content: str, says: str
) -> None:
    (tmp_path / "x.csv").write_text(content)
    done = swaprec("items", "load", "films", tmp_path / "x.csv", "--url", films.url)
    assert (done.returncode, says in " ".join(done.stderr.split())) == (USAGE, True), done.stderr


def test_rejected_rows_are_reported_before_the_service_refuses(
    client: Client, tmp_path: Path
) -> None:
    (tmp_path / "x.ndjson").write_text('{"item_id": "a"}\n[]\n')
    done = swaprec("items", "load", "nowhere", tmp_path / "x.ndjson", "--url", client.url)
    assert done.stderr.index("is no JSON object") < done.stderr.index("domain_not_found")


def bad_catalog(
    world: World, folder: Path, rows: list[dict[str, Any]], *, keep: bool = True
) -> HandOver:
    """Hand the run over with other rows in its catalog."""
    place = to_folder(handover(world.run), folder)
    before = (place / "items.ndjson").read_text("utf-8") if keep else ""
    (place / "items.ndjson").write_text(
        before + "".join(json.dumps(row) + "\n" for row in rows), "utf-8"
    )
    return handover(place)


def test_a_catalog_with_holes_is_published_whole_and_its_rejected_rows_are_reported(
    client: Client, world: World, tmp_path: Path
) -> None:
    holes = [
        {"item_id": f"nan{n}", "title": "x", "attributes": {"price": float("nan")}}
        for n in range(3)
    ]
    given = bad_catalog(world, tmp_path, [*holes, {"item_id": "bad"}, {"item_id": "worse"}])
    console = Console(record=True, width=200)
    done = publish(client, given, activate=True, create=True, console=console)
    assert done.card["version"] == 1
    assert client.domain("walk")["items"] == 43
    printed = console.export_text()
    assert "43 items new, 0 changed, 2 rejected" in printed
    assert (
        "(bad): title or text is needed: it is what the model reads (and 1 more like it)" in printed
    )
    with pytest.raises(Stop, match="2 of 45 rows") as error:
        done.check()
    assert error.value.code == REJECTED
    ended = swaprec("publish", given.bundle.parent, "--url", client.url)
    assert (ended.returncode, ended.stdout) == (REJECTED, "walk@1\n")


def test_a_catalog_that_the_tokenizer_does_not_know_is_published_with_a_warning(
    client: Client, world: World, tmp_path: Path
) -> None:
    rows = [{"item_id": f"th{n}", "title": f"เรื่อง {chr(0x0E01 + n)}"} for n in range(30)]
    console = Console(record=True, width=400)
    given = bad_catalog(world, tmp_path, rows, keep=False)
    publish(client, given, activate=False, create=True, probes=False, console=console)
    assert "warning: 100% of the tokens of these texts are unknown" in console.export_text()


def test_a_catalog_with_a_value_that_json_lacks_is_not_handed_over_in_part(
    world: World, tmp_path: Path
) -> None:
    given = bad_catalog(
        world, tmp_path, [{"item_id": "odd", "title": "x", "attributes": {"price": float("inf")}}]
    )
    with pytest.raises(
        Stop, match="item 'odd' of the catalog cannot be written: attributes: inf is infinite"
    ):
        to_folder(given, tmp_path / "second")
    assert list((tmp_path / "second").iterdir()) == []


def test_nothing_is_published_of_a_catalog_of_which_no_row_is_stored(
    client: Client, world: World, tmp_path: Path
) -> None:
    given = bad_catalog(world, tmp_path, [{"item_id": "bad"}], keep=False)
    with pytest.raises(Stop, match="the only row was rejected"):
        publish(client, given, activate=True, create=True, console=Console(quiet=True))
    assert client.versions("walk") == []


def test_an_unavailable_item_stays_unavailable_when_its_run_is_published_again(
    client: Client, world: World
) -> None:
    console = Console(quiet=True)
    publish(client, handover(world.run), activate=False, create=True, console=console)
    item_id = next(client.items("walk"))["item_id"]
    client.patch_item("walk", item_id, {"available": False})
    publish(client, handover(world.run), activate=False, create=True, console=console)
    assert client.item("walk", item_id)["available"] is False


def test_a_refused_single_item_is_named_as_before(films: Client) -> None:
    with pytest.raises(Malformed):
        films.put_item("films", "a", {"title": ""})
