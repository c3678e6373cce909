"""A run of one process: all rows are granted at the start, and the mode is the one of the config."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest

from runner.engine.single import Single
from runner.engine.task import Engine
from runner.errors import Interrupted, StorageError
from runner.session.session import SessionOutcome
from runner.store import RunDir
from runner.transport.fake import Behaviour, Fake, Script, throttled
from tests import virtual_time
from tests.engine.coordinating import make_task
from tests.engine.session_worker import loop_clock


def run_alone(
    path: Path, fake: Fake, rows: int = 100, signal_after_s: float | None = None, **sections: Any
) -> tuple[Single, SessionOutcome, list[str]]:
    """Run a session to its end in virtual time; return it, how it ended, and the lines for the user."""
    said: list[str] = []

    async def main() -> tuple[Single, SessionOutcome]:
        task = make_task(path, rows, workers=1, **sections)
        single = Single(task, fake, said.append, loop_clock())
        engine: Engine = single
        if signal_after_s is not None:
            asyncio.get_running_loop().call_later(signal_after_s, engine.shutdown.signal, 15)
        return single, await engine.run()

    single, outcome = virtual_time.run(main())
    return single, outcome, said


@pytest.mark.parametrize("mode", ["background", "batch"])
def test_every_row_ends_once_in_the_mode_of_the_config(tmp_path: Path, mode: str) -> None:
    fake = Fake(Behaviour(takes_s=10.0))
    target = {"base_url": "http://service/v1", "mode": mode}
    single, outcome, said = run_alone(tmp_path, fake, target=target, batch={"max_requests": 40})

    assert outcome.ended_by is None
    assert repr(single.shutdown) == "<Shutdown over>"
    assert (len(fake.jobs_made), len(fake.batches_made)) == ((100, 0) if mode == "background" else (0, 3))
    assert len(RunDir(tmp_path).results.read_bytes().splitlines()) == 100
    assert fake.is_closed
    assert said == []


def test_rows_with_a_result_are_not_granted_again(tmp_path: Path) -> None:
    run_alone(tmp_path, Fake(), limit=30)
    fake = Fake()
    _, outcome, _ = run_alone(tmp_path, fake)

    assert outcome.ended_by is None
    assert len(fake.posts) == 70


def test_a_signal_drains_it_and_the_user_is_informed(tmp_path: Path) -> None:
    fake = Fake(Behaviour(takes_s=math.inf))
    _, outcome, said = run_alone(tmp_path, fake, rows=5, signal_after_s=2.0, limits={"drain_s": 3})

    assert isinstance(outcome.ended_by, Interrupted)
    assert said == [
        "SIGTERM: nothing more is sent; waiting at most 3 s for 5 open jobs (Ctrl-C: stop at once)"
    ]


def test_what_the_session_says_goes_to_the_user(tmp_path: Path) -> None:
    fake = Fake(script=Script(submit={3: throttled(wait_s=20.0)}))
    _, outcome, said = run_alone(tmp_path, fake, rows=5)

    assert outcome.ended_by is None
    assert said == ["waiting 20 s, as the service asks: Too many requests."]


def test_files_that_cannot_be_opened_raise_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").mkdir()
    with pytest.raises(StorageError):
        run_alone(tmp_path, Fake())
