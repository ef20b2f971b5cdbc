"""The jobs that a call has added are made when they are looked at, and are as good as those from a list."""

from __future__ import annotations

import datetime as dt
import pickle

import pytest

from pgtasks.job import Job, JobSpec
from pgtasks.queue import rows
from pgtasks.queue.rows import AddedJobs, added_job

SPECS = [JobSpec(task="send", queue="mail"), JobSpec(task="resize", priority=3, flags=("b", "a", "b"))]


@pytest.fixture
def jobs() -> AddedJobs:
    jobs = AddedJobs()
    jobs.extend_unkeyed([5, 6], SPECS, ["{}", "[1]"], 1_000_000)
    jobs.extend([added_job(7, SPECS[0], "null", 0)])
    jobs.extend_unkeyed([2**62], SPECS[:1], ["ö" * 3], 0)
    return jobs


def test_they_are_found_by_position(jobs: AddedJobs) -> None:
    assert len(jobs) == 4
    assert [job.id for job in jobs] == [5, 6, 7, 2**62]
    assert [job.payload_json for job in jobs] == ["{}", "[1]", "null", "ööö"]
    assert (jobs[0].id, jobs[-2].id, [job.id for job in jobs[2:0:-1]]) == (5, 7, [7, 6])
    for beyond in (4, -5):
        with pytest.raises(IndexError):
            jobs[beyond]
    assert jobs[1] in jobs
    assert jobs.index(jobs[1]) == 1


def test_none_is_made_before_it_is_looked_at(jobs: AddedJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def make(job_id: int, spec: JobSpec, payload: str, created: int) -> Job:
        made.append(job_id)
        return added_job(job_id, spec, payload, created)

    monkeypatch.setattr(rows, "added_job", make)
    assert len(jobs) == 4
    assert made == []
    assert jobs[1] == jobs[1]
    assert made == [6, 6]


def test_they_equal_a_list_of_the_same_jobs(jobs: AddedJobs) -> None:
    same = list(jobs)
    assert jobs == same
    assert same == jobs
    assert jobs != same[:2]
    assert jobs != tuple(same)
    assert AddedJobs() == []
    assert not AddedJobs()
    assert jobs[4:] == []
    assert repr(jobs) == repr(same)


def test_a_job_has_what_its_spec_says_and_the_databases_defaults(jobs: AddedJobs) -> None:
    second = dt.datetime(2000, 1, 1, 0, 0, 1, tzinfo=dt.UTC)
    for job in (jobs[1], pickle.loads(pickle.dumps(jobs))[1]):
        assert job == Job(
            id=6,
            task="resize",
            queue=None,
            payload_json="[1]",
            priority=3,
            run_at=second,
            attempts=0,
            max_attempts=25,
            last_error=None,
            created_at=second,
            updated_at=second,
            key=None,
            locked_at=None,
            locked_by=None,
            revision=0,
            flags=("a", "b"),
        )
        assert job.payload == [1]
