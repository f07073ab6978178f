"""Commands that ask a running service, as a person types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.access.keys import KeyFile
from service.settings import Settings
from swaprec.client import Client
from swaprec.errors import FAILED, REFUSED, USAGE
from tests.service.conftest import running
from tests.service.redis_server import redis_running
from tests.swaprec.conftest import World
from tests.swaprec.test_cli import swaprec
from tests.tiny import tiny_picture

ITEMS = [{"item_id": f"i{n}", "title": f"film {n}"} for n in range(40)]


@pytest.fixture
def walk(url: str, client: Client, world: World) -> str:
    """The address of a service with a domain `walk`, version 1 live."""
    client.put_domain("walk", title="Walk")
    client.import_items("walk", ITEMS)
    client.push(world.run / "bundle.safetensors", activate=True)
    return url


def read(*arguments: str | Path, **environment: str) -> str:
    """Return what a command says, which fits 80 columns and talks on stderr only."""
    done = swaprec(*arguments, **environment)
    assert done.returncode == 0, done.stderr
    # paths that were given are as long as they are
    shown = done.stdout
    for given in arguments:
        shown = shown.replace(str(given), "") if isinstance(given, Path) else shown
    assert "--json" in arguments or max(map(len, shown.splitlines()), default=0) <= 80
    return done.stdout


def test_versions_go_live_and_back(walk: str, tmp_path: Path) -> None:
    env = {"SWAPREC_URL": walk}
    assert "walk@1*" in read("versions", "list", **env)
    assert read("activate", "walk", "none", **env) == "walk@none\n"
    assert read("activate", "walk", "1", "--canary", "10", **env) == (
        "walk@1 is a canary for 10 % of the users; the others get the live version\n"
    )
    assert read("rollback", "walk", **env) == "walk@none\n", "a rollback ends the canary"
    assert read("rollback", "walk", **env) == "walk@1\n"
    assert "walk@1, live" in read("versions", "show", "walk", "1", **env)
    assert json.loads(read("versions", "show", "walk", "1", "--json", **env))["live"]
    read("versions", "download", "walk", "1", tmp_path / "b.safetensors", **env)
    assert (tmp_path / "b.safetensors").stat().st_size > 100
    assert read("versions", "pin", "walk", "1", **env) == "walk@1 is pinned\n"
    assert json.loads(read("versions", "show", "walk", "1", "--json", **env))["pinned"]
    assert read("versions", "pin", "walk", "1", "--off", **env) == "walk@1 is not pinned\n"
    kept = swaprec("versions", "delete", "walk", "1", "--yes", **env)
    assert (kept.returncode, "version_in_use" in kept.stderr) == (REFUSED, True)


def test_domains_are_made_shown_and_removed(walk: str) -> None:
    env = {"SWAPREC_URL": walk}
    assert read("domains", "create", "books", "--title", "Books", **env) == "books\n"
    assert [one["domain"] for one in json.loads(read("domains", "list", "--json", **env))] == [
        "books",
        "walk",
    ]
    shown = read("domains", "show", "walk", **env)
    assert "40 stored, 40 searchable" in shown
    asked = swaprec("domains", "delete", "books", **env)
    assert (asked.returncode, "nothing was done" in asked.stderr) == (USAGE, True)
    read("domains", "delete", "books", "--yes", **env)
    assert "books" not in read("domains", "list", **env)


def test_items_are_loaded_from_every_form(walk: str, tmp_path: Path) -> None:
    import polars as pl

    env = {"SWAPREC_URL": walk}
    rows = [{"item_id": "n1", "title": "å new film", "year": 1999, "popularity": 3.5}]
    (tmp_path / "a.ndjson").write_text("\n" + json.dumps(rows[0]) + "\n", "utf-8")
    (tmp_path / "b.json").write_text(json.dumps([{**rows[0], "item_id": "n2"}]), "utf-8-sig")
    (tmp_path / "c.csv").write_text(
        'item_id,title,year,popularity\nn3,"a film, again",1999,3.5\n', "utf-8"
    )
    pl.DataFrame([{**rows[0], "item_id": 4, "text": None}]).write_parquet(tmp_path / "d.parquet")
    for name in ("a.ndjson", "b.json", "c.csv", "d.parquet"):
        assert read("items", "load", "walk", tmp_path / name, **env).startswith("1 accepted")
    assert read("items", "load", "walk", tmp_path / "c.csv", **env).startswith(
        "0 accepted, 0 updated, 1 unchanged"
    )
    for item_id in ("n1", "n2", "n3", "4"):
        item = json.loads(read("items", "show", "walk", item_id, "--json", **env))
        assert (str(item["metadata"]["year"]), item["popularity"]) == ("1999", 3.5)
    assert "a film, again" in read("items", "show", "walk", "n3", **env)
    assert len(read("items", "list", "walk", "-n", "5", **env).splitlines()) == 6


def test_items_come_from_a_pipe(walk: str) -> None:
    command = [
        sys.executable,
        "-m",
        "swaprec",
        "items",
        "load",
        "walk",
        "-",
        "--url",
        walk,
        "--json",
    ]
    done = subprocess.run(
        command, input=b'{"item_id": "p1", "title": "piped"}\n', capture_output=True, check=True
    )
    assert json.loads(done.stdout)["accepted"] == 1


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.txt", "", "expected .ndjson, .jsonl, .json, .csv or .parquet"),
        ("none.csv", None, "is not there"),
        ("x.ndjson", "{}\n[1]\n", "line 2 is no JSON object"),
        ("x.ndjson", "{}\n{", "line 2 is not JSON"),
        ("x.json", "{}", "no JSON array"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    walk: str, tmp_path: Path, name: str, content: str | None, says: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content, "utf-8")
    done = swaprec("items", "load", "walk", tmp_path / name, "--url", walk)
    assert (done.returncode, says in " ".join(done.stderr.split())) == (USAGE, True), done.stderr


def test_rows_that_the_service_refuses_are_reported(walk: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(
        "item_id,title,popularity\nq1,,\nq2,fine,many\nq3,fine,1\n", "utf-8"
    )
    done = swaprec("items", "load", "walk", tmp_path / "x.csv", "--url", walk)
    assert done.stdout == "1 accepted, 0 updated, 0 unchanged, 2 rejected\n"
    assert "not loaded: row 0 (q1)" in done.stderr


def test_texts_and_pictures_are_asked_with(walk: str, tmp_path: Path) -> None:
    found = json.loads(
        read("similar", "walk", "--text", "film the 3", "-k", "3", "--json", SWAPREC_URL=walk)
    )
    assert len(found["items"]) == 3
    assert found["items"][0]["item_id"] in read(
        "similar", "walk", "--text", "film the 3", SWAPREC_URL=walk
    )
    answer = json.loads(
        read("recommend", "walk", "i1", "--text", "film the 3", "--json", SWAPREC_URL=walk)
    )
    assert answer["history_used"] == 2
    (tmp_path / "film.png").write_bytes(tiny_picture(1))
    refused = swaprec("recommend", "walk", "--image", str(tmp_path / "film.png"), "--url", walk)
    assert "it has no text: the backbone reads nothing else" in " ".join(refused.stderr.split())
    for wrong in ((), ("i1", "--text", "film")):
        assert "expected either an item" in swaprec("similar", "walk", *wrong, "--url", walk).stderr


def test_versions_are_compared_side_by_side(walk: str) -> None:
    shown = read("compare", "walk", "i1", "i2", "-k", "4", SWAPREC_URL=walk)
    assert "overlap at 4" in shown
    arms = ("--arm", "1", "--arm", "popular")
    compared = json.loads(read("compare", "walk", "i1", *arms, "--json", SWAPREC_URL=walk))
    assert [arm["name"] for arm in compared["arms"]] == ["1", "popular"]
    wrong = swaprec("compare", "walk", "i1", "--arm", "best", "--url", walk)
    assert (wrong.returncode, "expected a number or none" in wrong.stderr) == (USAGE, True)


def test_jobs_are_listed_shown_and_waited_for(walk: str, client: Client) -> None:
    env = {"SWAPREC_URL": walk}
    job = client.jobs("walk")[0]["id"]
    assert job[:12] in read("jobs", "list", "walk", **env)
    assert "succeeded" in read("jobs", "show", job[:8], **env)
    assert read("jobs", "wait", job, **env) == "succeeded\n"
    missing = swaprec("jobs", "show", "nothing", **env)
    assert (missing.returncode, "job_not_found" in missing.stderr) == (REFUSED, True)


def test_keys_are_made_used_listed_and_revoked(tmp_path: Path, world: World) -> None:
    data = tmp_path / "guarded"
    root = KeyFile(data / "keys.json").add("root", "admin")[1]
    env = {"SWAPREC_DATA": str(data)}
    done = swaprec("keys", "add", "films", "--scope", "write", "--domain", "walk", **env)
    token = done.stdout.strip()
    assert done.returncode == 0
    assert token not in done.stderr
    listed = json.loads(read("keys", "list", "--json", **env))
    assert [(one["name"], one["scope"], one["domains"]) for one in listed] == [
        ("films", "write", ["walk"]),
        ("root", "admin", []),
    ]
    assert token.split("_")[1] in read("keys", "list", **env)
    with running(Settings(data=data, backbones=(world.backbone,), port=0), root) as http:
        url = str(http.base_url)
        http.put("/domains/walk", json={})
        assert "walk" in read("domains", "list", "--url", url, "--key", token)
        assert "walk" in read("domains", "list", SWAPREC_URL=url, SWAPREC_KEY=token)
        for arguments, code in ((("--key", "sr_0_0"), "unauthorized"), ((), "unauthorized")):
            refused = swaprec("domains", "list", "--url", url, *arguments)
            assert (refused.returncode, code in refused.stderr) == (REFUSED, True)
        forbidden = swaprec("domains", "create", "books", "--url", url, "--key", token)
        assert "needs a key of scope admin" in forbidden.stderr
    assert read("keys", "revoke", token.split("_")[1], **env).endswith("(films)\n")
    again = swaprec("keys", "revoke", token.split("_")[1], **env)
    assert (again.returncode, "does not exist" in again.stderr) == (USAGE, True)


def test_a_reader_that_has_seen_enough_is_no_error(walk: str) -> None:
    command = f"{sys.executable} -m swaprec items list walk -n 1000 --json --url {walk} | head -n 1"
    done = subprocess.run(
        ["/bin/bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False
    )
    assert done.stdout == "[\n"
    assert done.stderr == ""


def test_completion_offers_commands_domains_and_versions(walk: str) -> None:
    def offered(line: str, word: int) -> list[str]:
        env = {
            **os.environ,
            "_SWAPREC_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(word),
            "SWAPREC_URL": walk,
        }
        command = Path(sys.executable).with_name("swaprec")
        return subprocess.run(
            [command], env=env, capture_output=True, text=True, check=False
        ).stdout.split()

    assert offered("swaprec reco", 1) == ["recommend"]
    assert offered("swaprec recommend ", 2) == ["walk"]
    assert offered("swaprec activate walk ", 3) == ["none", "1"]


def test_the_doctor_finds_a_healthy_place_healthy(walk: str, tmp_path: Path, world: World) -> None:
    env = {"SWAPREC_DATA": str(tmp_path / "data"), "SWAPREC_BACKBONES": str(world.backbone)}
    found = json.loads(read("doctor", "--json", **env, SWAPREC_PORT=walk.rpartition(":")[2]))
    states = {one["what"]: one["state"] for one in found}
    assert (
        states["service"] == states["state"] == states["data folder"] == states["backbones"] == "ok"
    )
    assert "a service runs from this folder" in next(
        one["found"] for one in found if one["what"] == "lock"
    )
    shown = read("doctor", **env, SWAPREC_PORT="1")
    assert "domains: 1, items: 40" in " ".join(shown.split())


def test_the_doctor_knocks_at_redis(tmp_path: Path) -> None:
    env = {"SWAPREC_DATA": str(tmp_path / "data"), "SWAPREC_PORT": "0"}
    with redis_running() as server:
        found = json.loads(read("doctor", "--json", **env, REDIS_URL=server.url))
    assert "appendonly on" in next(one["found"] for one in found if one["what"] == "state")
    offline = swaprec("doctor", **env, REDIS_URL="redis://user:secret@127.0.0.1:9/0")
    assert (
        offline.returncode,
        "secret" in offline.stdout,
        "correct REDIS_URL" in offline.stdout,
    ) == (
        FAILED,
        False,
        True,
    )


def test_the_doctor_says_what_is_wrong_and_what_to_do(tmp_path: Path, world: World) -> None:
    data = tmp_path / "sick"
    data.mkdir()
    (data / "state.db").write_bytes(b"no database" * 100)
    (data / "keys.json").write_text("[]", "utf-8")
    (data / "keys.json").chmod(0o644)
    half = data / "backbones" / "half"
    half.mkdir(parents=True)
    (half / "config.json").write_text("{}", "utf-8")
    env = {"SWAPREC_DATA": str(data), "SWAPREC_PORT": "0", "SWAPREC_THREADS": "999"}
    done = swaprec("doctor", "--json", **env)
    assert done.returncode == FAILED
    found = {one["what"]: one for one in json.loads(done.stdout)}
    assert {what for what, one in found.items() if one["state"] == "bad"} == {"state", "backbones"}
    assert {what for what, one in found.items() if one["state"] == "warning"} >= {"keys", "threads"}
    assert all(one["advice"] for one in found.values() if one["state"] != "ok")
    assert "not right: state, backbones" in done.stderr
    exposed = swaprec(
        "doctor",
        "--json",
        SWAPREC_HOST="0.0.0.0",  # noqa: S104 - the point
        SWAPREC_DATA=str(tmp_path / "new"),
        SWAPREC_PORT="0",
    )
    assert "SWAPREC_INSECURE=1" in exposed.stdout
    assert not (tmp_path / "new").exists()
    wrong = swaprec("doctor", SWAPREC_PORT="many")
    assert "SWAPREC_PORT" in wrong.stdout
    assert world.backbone.is_dir()
