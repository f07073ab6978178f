from __future__ import annotations

import re

import httpx
import pytest

from service.recommend.canary import MIN_ANSWERS, Watch, chosen
from tests.service.conftest import (
    ITEMS,
    MakeBundle,
    activate,
    components_of,
    upload,
    wait_for_job,
    wait_until,
)

HISTORY = [item["item_id"] for item in ITEMS[:3]]


def test_a_canary_answers_the_same_users_every_time_and_about_as_many_as_asked() -> None:
    users = [f"u{number}" for number in range(5000)]
    drawn = [chosen("movies", "d1", user, 20) for user in users]
    assert drawn == [chosen("movies", "d1", user, 20) for user in users]
    assert 0.17 < sum(drawn) / len(users) < 0.23
    assert [chosen("movies", "d2", user, 20) for user in users] != drawn
    assert not any(chosen("movies", "d1", user, 0) for user in users)
    assert not chosen("movies", "d1", None, 99)


def test_whom_a_small_canary_answers_a_larger_one_answers_too() -> None:
    users = [f"u{number}" for number in range(1000)]
    few, many = (
        {user for user in users if chosen("movies", "d", user, share)} for share in (5, 50)
    )
    assert few < many


def test_a_canary_ends_when_its_answers_are_errors_and_the_live_version_s_are_not() -> None:
    watch = Watch()
    for _ in range(MIN_ANSWERS):
        assert watch.saw("movies", "d", canary=False, seconds=0.001) is None
    verdicts = [watch.saw("movies", "d", canary=True, seconds=None) for _ in range(MIN_ANSWERS)]
    assert verdicts[:-1] == [None] * (MIN_ANSWERS - 1)
    assert verdicts[-1] is not None
    assert "100.0% of its last 50 answers were errors" in verdicts[-1]


def test_a_canary_ends_when_it_is_much_slower() -> None:
    watch = Watch()
    for _ in range(MIN_ANSWERS):
        watch.saw("movies", "d", canary=False, seconds=0.002)
        verdicts = watch.saw("movies", "d", canary=True, seconds=0.05)
    assert verdicts is not None
    assert "50.0 ms" in verdicts


@pytest.mark.parametrize("seconds", [0.002, 0.006])
def test_a_canary_that_does_as_well_goes_on(seconds: float) -> None:
    watch = Watch()
    for _ in range(3 * MIN_ANSWERS):
        watch.saw("movies", "d", canary=False, seconds=0.002)
        assert watch.saw("movies", "d", canary=True, seconds=seconds) is None


def _version(client: httpx.Client, user: str | None) -> object:
    body = {"history": HISTORY, **({"user_id": user} if user is not None else {})}
    answer = client.post("/recommend?domain=movies", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["version"]


def _canary(client: httpx.Client, version: int, percent: int) -> None:
    answer = client.post(
        f"/adapters/movies/versions/{version}/activate", json={"canary_percent": percent}
    )
    assert answer.status_code == 202, answer.text
    assert wait_for_job(client, answer.json())["status"] == "succeeded"


def test_a_canary_answers_its_share_of_users_until_it_is_promoted(
    movies: httpx.Client, bundle: MakeBundle
) -> None:
    activate(movies, bundle(1))
    assert upload(movies, bundle(2)).status_code == 201
    _canary(movies, 2, 50)
    users = [f"u{number}" for number in range(40)]
    first = [_version(movies, user) for user in users]
    assert set(first) == {1, 2}
    assert [_version(movies, user) for user in users] == first
    assert _version(movies, None) == 1
    card = movies.get("/domains/movies").json()
    assert (card["live_version"], card["canary_version"], card["canary_percent"]) == (1, 2, 50)
    assert movies.delete("/adapters/movies/versions/2").status_code == 409
    promoted = movies.post("/adapters/movies/versions/2/promote")
    assert promoted.json()["version"] == 2
    assert {_version(movies, user) for user in users} == {2}
    assert movies.post("/domains/movies/rollback").json()["version"] == 1


def test_a_rollback_ends_the_canary_and_leaves_the_live_version(
    movies: httpx.Client, bundle: MakeBundle
) -> None:
    activate(movies, bundle(1))
    upload(movies, bundle(2))
    _canary(movies, 2, 99)
    assert movies.post("/domains/movies/rollback").json()["version"] == 1
    assert {_version(movies, f"u{number}") for number in range(20)} == {1}
    assert movies.get("/domains/movies").json()["canary_version"] is None
    again = movies.post("/adapters/movies/versions/2/promote")
    assert again.status_code == 409
    assert "no canary" in again.json()["detail"]


def test_what_is_live_cannot_be_its_own_canary(movies: httpx.Client, bundle: MakeBundle) -> None:
    activate(movies, bundle(1))
    answer = movies.post("/adapters/movies/versions/1/activate", json={"canary_percent": 10})
    assert answer.status_code == 409
    assert movies.get("/jobs?domain=movies").json()["items"][0]["status"] == "succeeded"


def test_a_canary_that_fails_is_taken_back_and_its_users_are_answered(
    movies: httpx.Client,
    bundle: MakeBundle,
) -> None:
    activate(movies, bundle(1))
    upload(movies, bundle(2))
    _canary(movies, 2, 50)
    canary = components_of(movies).live.get("movies").canary
    object.__setattr__(canary, "slot", None)  # nothing can be encoded with it any more
    for number in range(4 * MIN_ANSWERS):
        assert _version(movies, f"u{number}") == 1
    wait_until(lambda: movies.get("/domains/movies").json()["canary_version"] is None)
    log = components_of(movies).store.activations("movies")
    assert log[-1].reason.startswith("canary ended: ")


def test_a_canary_that_fails_no_more_often_than_the_live_version_goes_on(
    movies: httpx.Client, bundle: MakeBundle
) -> None:
    activate(movies, bundle(1))
    upload(movies, bundle(2))
    _canary(movies, 2, 50)
    deployment = components_of(movies).live.get("movies")
    for value in (deployment.live, deployment.canary):
        object.__setattr__(value, "slot", None)  # nothing can be encoded with either
    for number in range(3 * MIN_ANSWERS):
        answer = movies.post(
            "/recommend?domain=movies", json={"history": HISTORY, "user_id": f"u{number}"}
        )
        assert answer.status_code == 500
    assert movies.get("/domains/movies").json()["canary_version"] == 2


def test_answers_are_measured_by_version_while_a_canary_runs(
    movies: httpx.Client, bundle: MakeBundle
) -> None:
    activate(movies, bundle(1))
    for seed in (2, 3):
        upload(movies, bundle(seed))
    _canary(movies, 2, 50)
    for number in range(20):
        _version(movies, f"u{number}")
    assert counted(movies) == {("live", "1"), ("canary", "2")}
    movies.post("/domains/movies/rollback")
    _canary(movies, 3, 50)
    for number in range(20):
        _version(movies, f"u{number}")
    assert counted(movies) == {("live", "1"), ("canary", "3")}


def counted(client: httpx.Client) -> set[tuple[str, str]]:
    """Return arms and versions of which answers were counted."""
    lines = client.get("/metrics").text.splitlines()
    label = re.compile(
        r'swaprec_arm_seconds_count\{arm="(\w+)",domain="movies",'
        r'outcome="answer",version="(\w+)"\} '
    )
    return {(found[1], found[2]) for line in lines if (found := label.match(line))}


def test_a_running_canary_is_shown_with_its_share_and_since_when(
    movies: httpx.Client, bundle: MakeBundle
) -> None:
    activate(movies, bundle(1))
    assert movies.get("/domains/movies").json()["canary_since"] is None
    upload(movies, bundle(2))
    wait_for_job(
        movies,
        movies.post("/adapters/movies/versions/2/activate", json={"canary_percent": 10}).json(),
    )
    shown = movies.get("/domains/movies").json()
    assert (shown["live_version"], shown["canary_version"], shown["canary_percent"]) == (1, 2, 10)
    assert shown["canary_since"].endswith("Z")
    assert movies.get("/domains").json()["items"][0]["canary_since"] == shown["canary_since"]
    cards = movies.get("/adapters?domain=movies").json()["items"]
    assert [(card["live"], card["canary_percent"], card["canary_since"]) for card in cards] == [
        (True, 0, None),
        (False, 10, shown["canary_since"]),
    ]
    movies.post("/domains/movies/rollback")
    assert movies.get("/domains/movies").json()["canary_since"] is None
