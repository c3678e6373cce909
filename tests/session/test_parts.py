"""What the parts of a session share: waits before retries, and rules for each sort of exchange."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.policy.circuit import FAILURES_TO_OPEN
from runner.transport.fake import throttled, transient
from tests import virtual_time
from tests.session.building import Calls, Rig


def test_the_wait_before_a_retry_grows_up_to_its_cap_and_comes_on_top_of_what_the_service_asks(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        parts = Rig(tmp_path, submit={"retry": {"base_s": 1.0, "cap_s": 16.0}}).parts
        for failures in range(1, 12):
            ceiling_s = min(2.0 ** (failures - 1), 16.0)
            waits_s = [parts.retry_wait_s(failures, None) for _ in range(50)]
            assert 0.0 <= min(waits_s) < max(waits_s) <= ceiling_s
            assert max(waits_s) > 0.8 * ceiling_s
            assert 30.0 <= parts.retry_wait_s(failures, 30.0) <= 30.0 + ceiling_s

    virtual_time.run(main())


def test_each_sort_of_exchange_is_throttled_and_tried_on_its_own(tmp_path: Path) -> None:
    async def main() -> None:
        parts = Rig(tmp_path).parts
        reopened = Calls()
        posts, polls = parts.exchanges(reopened), parts.exchanges(reopened)
        posts.started(0.0)
        posts.settle(throttled(5.0), 0.0, 0.0)
        assert posts.opens_at(0.0) == 5.0
        for _ in range(FAILURES_TO_OPEN):
            assert polls.opens_at(0.0) <= 0.0
            polls.started(0.0)
            polls.settle(transient("500"), 0.0, 0.0)
        assert polls.opens_at(0.0) == pytest.approx(0.1)
        assert "closed, 0 failures" in repr(posts)

    virtual_time.run(main())


def test_a_sort_of_exchange_may_have_a_rate_that_is_never_exceeded(tmp_path: Path) -> None:
    async def main() -> None:
        polls = Rig(tmp_path).parts.exchanges(Calls(), 4.0)
        at_mono = 0.0
        for _ in range(20):
            at_mono = max(at_mono, polls.opens_at(at_mono))
            polls.started(at_mono)
        assert at_mono == pytest.approx(19 / 4, abs=0.1)

    virtual_time.run(main())
