"""Background mode: one POST per row, and a poller."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from runner.background.intake import Intake
from runner.background.poller import Poller
from runner.background.submitter import Submitter
from runner.records import Job
from runner.session.feed import Feed
from runner.session.parts import Parts
from runner.source import Source
from runner.store import Recovery


class BackgroundMode:
    """Turns each row into a background job: intake, submitter and poller. A `Mode`; see there."""

    def __init__(self, parts: Parts[Job], feed: Feed, source: Source, recovery: Recovery) -> None:
        self._config = parts.config
        self._in_flight = parts.in_flight
        self._recovery = recovery
        self._intake = Intake(parts, source, feed, recovery)
        self._submitter = Submitter(parts, self._intake)
        self._poller = Poller(parts, on_forgotten=self._submitter.resend)

    def workers(self) -> list[Coroutine[Any, Any, None]]:
        """Return the workers that submit and those that poll; jobs of earlier sessions are due at once."""
        while self._recovery.outstanding:
            self._poller.follow_inherited(self._recovery.outstanding.popitem()[1])
        return [
            *(self._submitter.work() for _ in range(self._config.submit.concurrency)),
            *(self._poller.work() for _ in range(self._config.poll.concurrency)),
        ]

    def follow(self, accepted: Job) -> int:
        """Poll a job whose acceptance is on record."""
        self._poller.follow(accepted)
        return 1

    def follow_inherited(self, job: Job) -> None:
        """Count and poll a job that a coordinator hands over, of an earlier session or of a dead worker."""
        self._in_flight.inherit(1)
        self._poller.follow_inherited(job)

    def expedite(self, job_id: str) -> bool:
        """Poll the job of that id next, and return whether it is followed here."""
        return self._poller.expedite_id(job_id)

    def give_back(self) -> list[int]:
        """Return the rows that wait here for a slot; they belong to another process from now on."""
        return self._intake.give_back()

    def wake(self) -> None:
        """Send what may be sent now."""
        self._submitter.turnstile.wake()

    def stop_submitting(self) -> None:
        """Send nothing more; outstanding jobs are still polled."""
        self._submitter.turnstile.close()

    def stop(self) -> None:
        """Neither send nor poll any more."""
        self.stop_submitting()
        self._poller.turnstile.close()

    def close(self) -> None:
        """Retract what was announced and not sent; all workers have ended."""
        self._intake.close()
