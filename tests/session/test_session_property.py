"""Whatever the service does, each row ends as exactly one result, even if the process is killed meanwhile."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import StoppedEarly
from runner.records import ResultStatus
from runner.transport.fake import (
    LOST,
    Answer,
    Behaviour,
    Exchange,
    Fake,
    FakeJob,
    Script,
    gone,
    rejected,
    throttled,
    transient,
)
from runner.transport.outcomes import RetrieveOutcome, SubmitOutcome
from tests import virtual_time
from tests.listed import row_of
from tests.session.full_disk import Disk
from tests.session.support import Ended, Stage, assert_no_job_is_polled_twice_at_once, session_of

ROWS: Final = 12
_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a directory of its own is made in it
MEMORY: Final = _MEMORY if _MEMORY.is_dir() else None
"""Where a directory for each example is cheap."""
MOST_SESSIONS: Final = 40
FAILING: Final = ("connect", "reset", "500", "502", "503", "not_json")
AMBIGUOUS: Final = ("timeout", "reset", "cut", "502")

POSTS: Final[st.SearchStrategy[Answer[SubmitOutcome] | None]] = st.one_of(
    st.none(),
    st.none(),
    st.just(LOST),
    st.builds(throttled, st.sampled_from([None, 0.0, 2.0, 30.0])),
    st.builds(transient, st.sampled_from(FAILING)),
    st.builds(transient, st.sampled_from(AMBIGUOUS), ambiguous=st.just(True)),
    st.just(rejected()),
)
GETS: Final[st.SearchStrategy[Answer[RetrieveOutcome] | None]] = st.one_of(
    st.none(),
    st.none(),
    st.just(LOST),
    st.just(gone()),
    st.builds(throttled, st.sampled_from([None, 0.0, 2.0, 30.0])),
    st.builds(transient, st.sampled_from(FAILING)),
)
ENDS: Final[tuple[ResultStatus, ...]] = ("completed", "failed", "incomplete", "expired", "cancelled")


@dataclass(frozen=True)
class Service:
    """How a drawn service behaves; what is listed by number holds for the first exchanges."""

    posts: list[Answer[SubmitOutcome] | None]
    gets: list[Answer[RetrieveOutcome] | None]
    latencies_s: list[float]
    takes_s: list[float]
    ends: list[ResultStatus]
    lost_jobs: set[int]
    behaviour: dict[str, float] = field(default_factory=dict)
    honours_keys: bool = True

    def start(self) -> Fake:
        """Return the service, new."""

        def takes_s(job: FakeJob) -> float:
            job.is_lost = job.number in self.lost_jobs
            return self.takes_s[job.number % len(self.takes_s)]

        def latency_s(exchange: Exchange) -> float:
            n = exchange.number - 1
            return self.latencies_s[n] if n < len(self.latencies_s) else 0.1

        behaviour = Behaviour(
            takes_s=takes_s,
            ends=lambda job: self.ends[job.number % len(self.ends)],
            honours_keys=self.honours_keys,
            max_jobs=self.behaviour.get("max_jobs", float("inf")),
            posts_per_s=self.behaviour.get("posts_per_s", float("inf")),
            gets_per_s=self.behaviour.get("gets_per_s", float("inf")),
        )
        script = Script(
            submit=lambda post: listed_at(self.posts, post.number),
            retrieve=lambda get: listed_at(self.gets, get.number),
        )
        return Fake(behaviour, script, latency_s=latency_s, timeout_s=20.0)


def listed_at(answers: list[Any], number: int) -> Any:
    return answers[number - 1] if number <= len(answers) else None


def services(honours_keys: st.SearchStrategy[bool], lost_jobs: int) -> st.SearchStrategy[Service]:
    return st.builds(
        Service,
        posts=st.lists(POSTS, max_size=30),
        gets=st.lists(GETS, max_size=40),
        latencies_s=st.lists(st.sampled_from([0.0, 0.1, 1.0, 30.0]), max_size=30),
        takes_s=st.lists(st.sampled_from([0.0, 1.0, 20.0, 100.0]), min_size=1, max_size=4),
        ends=st.lists(st.sampled_from(ENDS), min_size=1, max_size=4),
        lost_jobs=st.sets(st.integers(1, ROWS), max_size=lost_jobs),
        behaviour=st.fixed_dictionaries(
            {},
            optional={
                "max_jobs": st.sampled_from([1.0, 3.0]),
                "posts_per_s": st.sampled_from([0.5, 5.0]),
                "gets_per_s": st.sampled_from([2.0, 20.0]),
            },
        ),
        honours_keys=honours_keys,
    )


CONFIGS: Final = st.fixed_dictionaries(
    {
        "submit": st.fixed_dictionaries(
            {
                "concurrency": st.integers(1, 5),
                "max_in_flight": st.integers(1, ROWS),
                "on_uncertain": st.sampled_from(["hold", "resend"]),
                "retry": st.fixed_dictionaries({"max_attempts": st.integers(1, 8)}),
            }
        ),
        "poll": st.fixed_dictionaries(
            {
                "concurrency": st.integers(1, 5),
                "strategy": st.sampled_from(["fixed", "adaptive"]),
                "deadline_s": st.sampled_from([50.0, 1000.0]),
            }
        ),
    }
)


@dataclass
class Interruption:
    """Disturbs one session of a run, or ends it before its time."""

    kind: str
    after_s: float
    copy: Path | None = None
    """After a kill: the files as they were at that moment."""

    async def strike(self, stage: Stage, fake: Fake, disk: Disk) -> None:
        """Wait for the moment, and let it happen."""
        await asyncio.sleep(self.after_s)
        shutdown = stage.session.shutdown
        match self.kind:
            case "kill":  # the files stay as they are, and nothing is sent any more
                self.copy = stage.around.directory / "killed"
                shutil.copytree(stage.around.directory, self.copy)
                shutdown.force(StoppedEarly("killed"))
            case "signal":
                shutdown.signal(signal.SIGINT)
            case "two signals":
                shutdown.signal(signal.SIGINT)
                shutdown.signal(signal.SIGTERM)
            case "sleep":
                stage.suspend(fake, 7200.0)
            case "expedite":
                for job in fake.jobs_made:
                    stage.session.mode.expedite(job.id)
            case name:
                disk.full = {"journal.jsonl", "results.jsonl"} if name == "full disk" else {name}
                await asyncio.sleep(20.0)
                disk.full = set()


KINDS: Final = (
    "kill", "signal", "two signals", "sleep", "expedite", "full disk", "journal.jsonl", "results.jsonl",
)  # fmt: skip
"""The last ones are the names of files that have no room left for 20 s."""
INTERRUPTIONS: Final = st.lists(
    st.builds(
        Interruption,
        st.sampled_from(KINDS),
        st.floats(0.0, 40.0),
    ),
    max_size=3,
)


async def run_to_the_end(
    directory: Path,
    fake: Fake,
    interruptions: Sequence[Interruption],
    disk: Disk,
    /,
    **sections: Mapping[str, object],
) -> Ended:
    """Run one session after the other, the first ones interrupted, until every row has its result."""
    for number in range(MOST_SESSIONS):
        interruption = interruptions[number] if number < len(interruptions) else None

        async def act(stage: Stage, interruption: Interruption | None = interruption) -> None:
            if interruption:
                await interruption.strike(stage, fake, disk)

        ended = await session_of(directory, fake, ROWS, act, **sections)
        disk.full = set()
        if interruption and interruption.copy:
            directory = interruption.copy
        elif ended.outcome.ended_by is None:
            return ended
    raise AssertionError(f"{ended.outcome}, {ended.said}")


def run(
    service: Service, interruptions: Sequence[Interruption], sections: dict[str, dict[str, object]]
) -> tuple[Ended, Fake]:
    """Run to the end in a directory of its own, and check what must hold always."""
    fake = service.start()
    with TemporaryDirectory(dir=MEMORY) as name, pytest.MonkeyPatch.context() as patch:
        directory = Path(name)
        ended = virtual_time.run(run_to_the_end(directory, fake, interruptions, Disk(patch), **sections))
        assert_answers_are_of_their_rows(directory, fake)
    assert sorted(ended.results) == list(range(ROWS))
    assert repr(ended.in_flight) == (
        f"<InFlight 0 taken, 0 announced, 0 sending, 0 outstanding, {ROWS} of {ROWS} finished>"
    )
    assert ended.in_flight.most_slots <= ROWS
    assert fake.at_once["submit"].most <= int(str(sections["submit"]["concurrency"]))
    assert fake.at_once["retrieve"].most <= int(str(sections["poll"]["concurrency"]))
    assert_no_job_is_polled_twice_at_once(fake)
    return ended, fake


def assert_answers_are_of_their_rows(directory: Path, fake: Fake) -> None:
    for path in directory.rglob("results.jsonl"):
        for line in map(json.loads, path.read_bytes().splitlines()):
            body = line["response"] and line["response"]["body"]
            if body and "id" in body:
                assert row_of(fake.service.jobs[body["id"]].body) == line["row"]
                assert fake.service.jobs[body["id"]].status == line["status"]


@settings(max_examples=50)
@given(services(st.booleans(), lost_jobs=3), CONFIGS, st.booleans(), INTERRUPTIONS)
def test_every_row_ends_as_exactly_one_result(
    service: Service,
    sections: dict[str, dict[str, object]],
    has_header: bool,
    interruptions: list[Interruption],
) -> None:
    sections["target"] = {"idempotency_header": "Idempotency-Key" if has_header else None}
    run(service, interruptions, sections)


@settings(max_examples=50)
@given(services(st.just(True), lost_jobs=0), CONFIGS, INTERRUPTIONS)
def test_with_keys_nothing_is_paid_for_twice(
    service: Service, sections: dict[str, dict[str, object]], interruptions: list[Interruption]
) -> None:
    _, fake = run(service, interruptions, sections)
    assert set(Counter(row_of(job.body) for job in fake.jobs_made).values()) <= {1}
