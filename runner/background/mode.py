"""One POST a request, and a poller: what stands between rows and results in background mode."""

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


class Background:
    """Intake, submitter and poller, wired. A `Middle`; see there."""

    def __init__(self, parts: Parts, source: Source, feed: Feed, recovery: Recovery) -> None:
        self._config = parts.config
        self._recovery = recovery
        self._intake = Intake(parts, source, feed, recovery)
        self._poller = Poller(parts)
        self._submitter = Submitter(parts, self._intake, self._poller.follow)
        feed.on_more = self._submitter.turnstile.wake
        self._poller.on_forgotten = self._submitter.resend

    def workers(self) -> list[Coroutine[Any, Any, None]]:
        """Those that submit, and those that poll; the jobs of earlier sessions are with the latter."""
        while self._recovery.outstanding:
            self.follow(self._recovery.outstanding.popitem()[1])
        return [
            *(self._submitter.work() for _ in range(self._config.submit.concurrency)),
            *(self._poller.work() for _ in range(self._config.poll.concurrency)),
        ]

    def follow(self, job: Job) -> None:
        """Poll a job of an earlier session."""
        self._poller.follow_again(job)

    def give_back(self) -> list[int]:
        """Rows that wait here for a place; they are another's from now on."""
        return self._intake.give_back()

    def places_are_free(self) -> None:
        """Results are written."""
        self._submitter.turnstile.wake()

    def stop_submitting(self) -> None:
        """Nothing more is sent."""
        self._submitter.turnstile.close()

    def stop(self) -> None:
        """Nothing more is polled either."""
        self.stop_submitting()
        self._poller.turnstile.close()

    def close(self) -> None:
        """What is ready will not be sent."""
        self._intake.close()
