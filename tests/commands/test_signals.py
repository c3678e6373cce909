"""SIGINT and SIGTERM in each state of a command: recorded, raised, handed to the loop, or ignored."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator

import pytest

from runner.commands.signals import SIGNALS, Signals
from runner.errors import Interrupted


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    hook = sys.unraisablehook
    yield
    sys.unraisablehook = hook
    for signum, handler in before.items():
        signal.signal(signum, handler)


def send(signum: signal.Signals = signal.SIGINT) -> None:
    os.kill(os.getpid(), signum)


def handlers() -> list[object]:
    return [signal.getsignal(signum) for signum in SIGNALS]


def test_the_handlers_from_before_are_restored() -> None:
    before = handlers()
    with Signals():
        assert handlers() != before
    assert handlers() == before


@pytest.mark.parametrize("signum", SIGNALS)
def test_at_first_a_signal_ends_the_command(signum: signal.Signals) -> None:
    with Signals() as signals, pytest.raises(Interrupted) as caught:
        send(signum)
    assert caught.value.exit_code == 128 + signum
    assert signals.received == [signum]


def test_on_hold_signals_are_only_recorded() -> None:
    with Signals() as signals:
        signals.hold()
        send()
        send(signal.SIGTERM)
    assert signals.received == [signal.SIGINT, signal.SIGTERM]


def test_a_handler_gets_the_signals_so_far_at_once_and_later_ones_from_the_loop() -> None:
    seen: list[tuple[int, str]] = []
    step = "before"

    async def main(signals: Signals) -> None:
        nonlocal step
        signals.hand_to(lambda signum: seen.append((signum, step)))
        assert seen == [(signal.SIGTERM, "before")]
        step = "in the middle of a callback"
        send()
        assert len(seen) == 1
        step = "between callbacks"
        await asyncio.sleep(0.01)

    with Signals() as signals:
        signals.hold()
        send(signal.SIGTERM)
        asyncio.run(main(signals))
    assert seen == [(signal.SIGTERM, "before"), (signal.SIGINT, "between callbacks")]


def test_a_signal_cancels_interruptible_work() -> None:
    cancelled = []

    async def work() -> None:
        try:
            send(signal.SIGTERM)
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    with Signals() as signals, pytest.raises(Interrupted) as caught:
        asyncio.run(signals.interruptible(work()))
    assert cancelled
    assert caught.value.exit_code == 143


def test_a_signal_from_before_cancels_interruptible_work() -> None:
    with Signals() as signals:
        signals.hold()
        send()
        with pytest.raises(Interrupted):
            asyncio.run(signals.interruptible(asyncio.sleep(60)))


def test_interruptible_work_returns_its_result_and_raises_its_errors() -> None:
    async def answer() -> int:
        return 42

    async def fail() -> int:
        raise KeyError("why")

    with Signals() as signals:
        assert asyncio.run(signals.interruptible(answer())) == 42
        with pytest.raises(KeyError):
            asyncio.run(signals.interruptible(fail()))


def test_a_cancellation_from_outside_is_no_signal() -> None:
    async def main(signals: Signals) -> None:
        task = asyncio.create_task(signals.interruptible(asyncio.sleep(60)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with Signals() as signals:
        asyncio.run(main(signals))


def test_last_messages_are_not_interrupted_not_even_after_the_context() -> None:
    with Signals() as signals:
        signals.ignore_to_the_end()
        send()
    send()
    send(signal.SIGTERM)
    assert handlers() == [signal.SIG_IGN, signal.SIG_IGN]
    assert signals.received == [signal.SIGINT]
