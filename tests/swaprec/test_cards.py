"""What versions say of their figures, through a real service."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from swaprec.cards import COLUMNS, card_rows, figure_lines, list_notes, list_rows
from swaprec.client import Client
from tests.swaprec.conftest import World
from tests.swaprec.in_process import invoke
from tests.tiny import tiny_adapter, tiny_bundle
from transrec.backbone import Backbone


def hr(value: float) -> dict[str, float]:
    return {
        "hr": value,
        "hr_low": value - 0.01,
        "hr_high": value + 0.01,
        "ndcg": value / 2,
        "users": 60,
    }


def make(path: Path, world: World, seed: int, digest: str, metrics: dict[str, Any]) -> Path:
    """Write a bundle of the world's backbone that says of itself what it is given."""
    backbone = Backbone.load(world.backbone)
    adapter = tiny_adapter(backbone, seed)
    return tiny_bundle(
        path / f"{seed}.safetensors", backbone, "walk", adapter, data_digest=digest, metrics=metrics
    )


def test_figures_of_different_data_are_marked_and_those_below_a_baseline_said_to_be(
    url: str, client: Client, world: World, tmp_path: Path
) -> None:
    client.put_domain("walk")
    low = {
        "test": hr(0.1),
        "baselines": {"none": hr(0.3), "item_knn": hr(0.105)},
        "items": 1200,
        "seed": 7,
    }
    high = {"test": hr(0.4), "baselines": {"none": hr(0.3)}, "items": 16859}
    client.push(make(tmp_path, world, 1, "aa11bb22cc", low))
    client.push(make(tmp_path, world, 2, "dd33ee44ff", high))
    sentence = (
        "walk@1: HR@10 0.1000 [0.0900, 0.1100] is below none (0.3000) and not better than item-kNN"
        " (0.1050) within the 95 % intervals."
    )
    piped = invoke("versions", "list", SWAPREC_URL=url)
    rows = piped.stdout.splitlines()
    assert rows[1].split()[2:7] == ["0.1000", "a", "60", "1,200", "aa11bb22"]
    assert rows[2].split()[2:7] == ["0.4000", "b", "60", "16,859", "dd33ee44"]
    assert rows[3].startswith("a, b: measured on different data, so not comparable; swaprec probe")
    assert rows[4:] == [sentence]
    for columns in ("40", "80"):
        narrow = invoke("versions", "list", "walk", SWAPREC_URL=url, COLUMNS=columns).stdout
        assert max(map(len, narrow.splitlines())) <= int(columns)
        assert sentence in " ".join(narrow.split())
    shown = " ".join(invoke("versions", "show", "walk", "1", SWAPREC_URL=url).stdout.split())
    assert "measured on 60 users, 1,200 items, seed 7, data aa11bb22" in shown
    assert "item-kNN 0.1050 [0.0950, 0.1150]" in shown
    assert sentence.removeprefix("walk@1: ") in shown
    pushed = invoke("push", make(tmp_path, world, 3, "aa11bb22cc", low), "--url", url, "--json")
    assert sentence.removeprefix("walk@1: ") in " ".join(pushed.stderr.split())
    assert json.loads(pushed.stdout)["version"] == 3


def test_a_trained_run_says_what_it_was_measured_on_when_it_is_published(
    url: str, world: World
) -> None:
    done = invoke("publish", world.run, "--url", url)
    report = json.loads((world.run / "result.json").read_text("utf-8"))
    line = next(line for line in done.stderr.splitlines() if line.startswith("HR@10"))
    assert line.endswith(
        f"measured on 60 users, 40 items, seed 0, data {report['data']['digest'][:8]}"
    )


def test_numbers_of_a_strangers_manifest_do_not_fill_the_screen() -> None:
    far = {"hr": 1e300, "hr_low": -1e300, "ndcg": 1e300, "users": 1e300}
    card: Any = {
        "domain": "d",
        "version": 1,
        "kind": "houlsby",
        "backbone": "b" * 64,
        "dtype": "float32",
        "digest": "c" * 64,
        "size": 10,
        "data_digest": "",
        "created_at": "",
        "uploaded_at": "2026-11-28T04:15:25.709Z",
        "parameters": {"total": -1e300, "share": 1e300},
        "metrics": {"test": far, "baselines": {"none": far}, "items": 1e300, "seed": 1e300},
    }
    shown = [*list_rows([card]), *card_rows(card), list_notes([card]), figure_lines(card)]
    assert max(len(text) for row in shown for text in row) <= 64


@pytest.mark.parametrize(
    "metrics",
    [
        {},
        {"test": "good"},
        {"test": {"hr": 10**400, "users": 10**400}, "items": 10**400},
        {"test": {"hr": 0.5, "users": "all"}, "baselines": [1], "items": None},
        {"hr": 0.5},
    ],
)
def test_whatever_a_strangers_manifest_says_a_card_is_shown(metrics: dict[str, Any]) -> None:
    card: Any = {
        "domain": "d",
        "version": 1,
        "kind": "houlsby",
        "digest": "0" * 64,
        "size": 10,
        "backbone": "1" * 64,
        "dtype": "float32",
        "data_digest": "",
        "parameters": {"total": 15592384, "share": "most"},
        "metrics": metrics,
        "created_at": "",
        "uploaded_at": "2026-11-28T02:03:04Z",
    }
    other: Any = {**card, "version": 2}
    rows = list_rows([card, other])
    assert {len(row) for row in rows} == {len(COLUMNS)}
    assert rows[0][1] == "houlsby 15,592,384"
    assert ("parameters", "total 15,592,384") in card_rows(card)
    assert len(list_notes([card])) == 0
    assert len(figure_lines(card)) <= 1
