"""Jobs that processes claim: who may do what to a job, on each backend."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from service.errors import JobNotFound, JobTaken, RequestConflict
from service.state import RETAINED_JOBS, DomainRecord, JobRecord, State

MOVIES = DomainRecord("movies", "f" * 64, "Films")
LONG_S = 60.0


def claimed(state: State, owner: str = "one", lease_s: float = LONG_S) -> JobRecord:
    job = state.claim_job(owner, lease_s)
    assert job is not None
    return job


def test_open_jobs_are_those_of_all_domains_that_have_not_ended(state: State) -> None:
    for name in ("movies", "books"):
        state.put_domain(DomainRecord(name, "f"))
    jobs = [state.create_job("import", name, {}) for name in ("movies", "books", "movies")]
    assert [job.id for job in state.open_jobs()] == [job.id for job in jobs]
    state.update_job(jobs[1].id, status="failed")
    assert claimed(state).id == jobs[0].id
    assert [(job.id, job.status) for job in state.open_jobs()] == [
        (jobs[0].id, "running"),
        (jobs[2].id, "queued"),
    ]


def test_a_job_that_is_stored_with_its_result_has_ended_and_is_never_claimed(state: State) -> None:
    state.put_domain(DomainRecord("movies", "f"))
    job = state.create_job("activate", "movies", {"version": 1}, {"version": 1})
    assert (job.status, job.result) == ("succeeded", {"version": 1})
    assert state.get_job(job.id) == job
    assert state.claim_job("one", 5.0) is None


def test_only_the_first_job_of_a_domain_that_has_not_ended_is_claimed(state: State) -> None:
    assert state.claim_job("one", LONG_S) is None
    first, second = (state.create_job("import", "movies", {"n": n}) for n in range(2))
    other = state.create_job("import", "books", {})
    job = claimed(state)
    assert (job.id, job.status, job.owner, job.detail) == (first.id, "running", "one", {"n": 0})
    assert claimed(state, "two").id == other.id
    assert state.claim_job("two", LONG_S) is None
    state.update_job(first.id, token=job.token, status="failed", error={"detail": "no"})
    later = claimed(state, "two")
    assert (later.id, later.owner) == (second.id, "two")
    assert later.token > job.token


def test_domains_take_turns_however_many_jobs_they_have(state: State) -> None:
    for domain in ("movies", "movies", "movies", "books", "books", "songs"):
        state.create_job("import", domain, {})
    turns = []
    while job := state.claim_job("one", LONG_S):
        turns.append(job.domain)
        state.update_job(job.id, token=job.token, status="succeeded")
    assert turns == ["movies", "books", "songs", "movies", "books", "movies"]


def test_a_job_whose_lease_ran_out_is_claimed_again_and_its_former_holder_is_refused(
    state: State,
) -> None:
    created = state.create_job("import", "movies", {})
    old = claimed(state, "one", 0.05)
    assert state.holds("movies", old.token)
    time.sleep(0.06)
    assert not state.holds("movies", old.token)
    new = claimed(state, "two")
    assert (new.id, new.owner) == (created.id, "two")
    assert new.token > old.token
    late: tuple[Callable[[], object], ...] = (
        lambda: state.update_job(created.id, token=old.token, stage="late", status="succeeded"),
        lambda: state.renew_job(created.id, old.token, LONG_S),
        lambda: state.release_job(created.id, old.token),
    )
    for call in late:
        with pytest.raises(JobTaken, match="leave it alone"):
            call()
    assert state.get_job(created.id) == new
    assert state.holds("movies", new.token)


def test_a_renewed_lease_does_not_run_out_and_one_that_did_is_renewed_while_nobody_took_the_job(
    state: State,
) -> None:
    job = state.create_job("import", "movies", {})
    token = claimed(state, "one", 0.05).token
    state.renew_job(job.id, token, LONG_S)
    time.sleep(0.06)
    assert state.claim_job("two", LONG_S) is None
    state.renew_job(job.id, token, 0.0)
    assert not state.holds("movies", token)
    assert state.renew_job(job.id, token, LONG_S).owner == "one"
    assert state.claim_job("two", LONG_S) is None


def test_a_job_that_is_given_back_waits_in_its_place_and_its_token_is_worth_nothing(
    state: State,
) -> None:
    first, _ = (state.create_job("import", "movies", {}) for _ in range(2))
    token = claimed(state).token
    given = state.release_job(first.id, token)
    assert (given.status, given.owner, given.token) == ("queued", "", 0)
    assert not state.holds("movies", token)
    with pytest.raises(JobTaken):
        state.update_job(first.id, token=token, status="succeeded")
    again = claimed(state, "two")
    assert again.id == first.id
    assert again.token > token


def test_a_queued_job_is_cancelled_at_once_and_a_running_one_is_asked_to_stop(state: State) -> None:
    first, second, third = (state.create_job("import", "movies", {}) for _ in range(3))
    token = claimed(state).token
    cancelled = state.cancel_job(second.id)
    assert (cancelled.status, cancelled.ended) == ("cancelled", True)
    for _ in range(2):
        asked = state.cancel_job(first.id)
        assert (asked.status, asked.cancelling) == ("running", True)
    assert state.renew_job(first.id, token, LONG_S).cancelling
    state.update_job(first.id, token=token, status="cancelled")
    assert claimed(state).id == third.id
    for ended in (first, second):
        with pytest.raises(RequestConflict, match="has ended: cancelled"):
            state.cancel_job(ended.id)
    with pytest.raises(JobNotFound):
        state.cancel_job("x")


def test_who_claims_a_job_that_was_to_be_cancelled_learns_of_it(state: State) -> None:
    job = state.create_job("import", "movies", {})
    claimed(state, "one", 0.0)
    state.cancel_job(job.id)
    assert claimed(state, "two").cancelling


def test_the_end_of_a_job_ends_its_lease_and_saying_it_twice_is_safe(state: State) -> None:
    job = state.create_job("import", "movies", {})
    token = claimed(state).token
    for _ in range(2):
        assert state.update_job(
            job.id, token=token, status="succeeded", result={"n": 1}
        ).result == {"n": 1}
    assert not state.holds("movies", token)
    with pytest.raises(JobTaken):
        state.renew_job(job.id, token, LONG_S)
    with pytest.raises(JobTaken):
        state.release_job(job.id, token)
    assert state.get_job(job.id).status == "succeeded"


def test_a_claim_outlives_a_restart_of_others_and_not_its_domain(
    state: State, reopen: Callable[[], State]
) -> None:
    state.put_domain(MOVIES)
    job = state.create_job("import", "movies", {})
    token = claimed(state).token
    again = reopen()
    assert again.holds("movies", token)
    assert not again.holds("books", token)
    assert not again.holds("movies", token + 1)
    assert again.claim_job("two", LONG_S) is None
    again.delete_domain("movies")
    assert not state.holds("movies", token)
    late: tuple[Callable[[], object], ...] = (
        lambda: state.renew_job(job.id, token, 1),
        lambda: state.update_job(job.id, token=token, stage="x"),
    )
    for call in late:
        with pytest.raises(JobNotFound):
            call()
    again.put_domain(MOVIES)
    state.create_job("import", "movies", {})
    assert claimed(again, "two").token > token
    again.close()


def test_jobs_are_kept_changed_and_listed_newest_first(
    state: State, reopen: Callable[[], State]
) -> None:
    first, second = (state.create_job("import", name, {"n": 1}) for name in ("movies", "books"))
    state.update_job(
        first.id, status="failed", stage="embed", done=3, total=9, error={"detail": "no"}
    )
    again = reopen()
    found = again.get_job(first.id)
    assert (found.status, found.stage, found.done, found.error) == (
        "failed",
        "embed",
        3,
        {"detail": "no"},
    )
    assert found.ended
    assert [job.id for job in again.jobs()] == [second.id, first.id]
    assert [job.id for job in again.jobs("books")] == [second.id]
    again.close()
    calls: tuple[Callable[[], object], ...] = (
        lambda: state.get_job("x"),
        lambda: state.update_job("x", status="failed"),
    )
    for call in calls:
        with pytest.raises(JobNotFound):
            call()


def test_of_more_jobs_than_are_kept_of_a_domain_the_oldest_that_ended_are_removed(
    state: State,
) -> None:
    running, *ended = (state.create_job("import", "movies", {}) for _ in range(RETAINED_JOBS + 2))
    for job in ended:
        state.update_job(job.id, status="succeeded")
    other = state.create_job("import", "books", {})
    newest = state.create_job("import", "movies", {})
    kept = [newest.id, *(job.id for job in reversed(ended[2:])), running.id]
    assert [job.id for job in state.jobs("movies", 5000)] == kept
    assert {job.id for job in state.jobs(limit=5000)} == {other.id, *kept}, (
        "another domain loses nothing"
    )
    assert state.get_job(running.id) == running
    claimed = state.claim_job("one", 60)
    assert claimed is not None
    assert claimed.id == running.id


def test_the_open_jobs_of_a_domain_are_counted(state: State) -> None:
    assert state.count_open_jobs("movies") == 0
    jobs = [
        state.create_job("import", name, {}) for name in ("movies", "books", "movies", "movies")
    ]
    state.update_job(jobs[0].id, status="failed")
    assert (state.count_open_jobs("movies"), state.count_open_jobs("books")) == (2, 1)
