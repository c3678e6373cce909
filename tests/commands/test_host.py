"""What a command does to its own process: more open files if it needs them, and fewer garbage collections."""

from __future__ import annotations

import gc
import resource
from collections.abc import Iterator
from typing import Any

import pytest

from runner.commands.host import FILES_BESIDE_CONNECTIONS, GC_THRESHOLD, raise_open_file_limit, tune_gc
from runner.config import RunConfig
from runner.errors import ConfigError

UNLIMITED = resource.RLIM_INFINITY


class Limit:
    """The limit of open files, as if it were that of this process."""

    def __init__(self, soft: int, hard: int, most: int = 1 << 20) -> None:
        self.now = (soft, hard)
        self.was_set = False
        self._most = most

    def get(self, kind: int) -> tuple[int, int]:
        assert kind == resource.RLIMIT_NOFILE
        return self.now

    def set(self, kind: int, limits: tuple[int, int]) -> None:
        soft, hard = limits
        if soft > hard or soft > self._most:
            raise ValueError("not allowed to raise maximum limit")
        self.now, self.was_set = limits, True


def config_of(posts: int, gets: int, **sections: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "name": "t",
            "request": {"model": "m"},
            "submit": {"concurrency": posts},
            "poll": {"concurrency": gets},
            **sections,
        }
    )


@pytest.mark.parametrize(
    ("limit", "after"),
    [
        (Limit(1024, 4096), 1024),
        (Limit(128, 4096), 150 + 20 + FILES_BESIDE_CONNECTIONS),
        (Limit(128, 234), 234),
        (Limit(UNLIMITED, UNLIMITED), UNLIMITED),
    ],
    ids=["enough", "too few", "just as many as there may be", "unlimited"],
)
def test_the_limit_is_raised_only_as_far_as_needed(
    monkeypatch: pytest.MonkeyPatch, limit: Limit, after: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", limit.get)
    monkeypatch.setattr(resource, "setrlimit", limit.set)
    before = limit.now
    raise_open_file_limit(config_of(150, 20))
    assert limit.now == (after, before[1])


def test_in_batch_mode_only_uploads_count_as_posts(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = Limit(100, 4096)
    monkeypatch.setattr(resource, "getrlimit", limit.get)
    monkeypatch.setattr(resource, "setrlimit", limit.set)
    raise_open_file_limit(config_of(3000, 20, target={"mode": "batch"}, batch={"concurrency": 2}))
    assert not limit.was_set


@pytest.mark.parametrize(
    "limit", [Limit(128, 128), Limit(128, UNLIMITED, most=200)], ids=["the hard limit", "the system"]
)
def test_what_is_not_allowed_is_an_error_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, limit: Limit
) -> None:
    monkeypatch.setattr(resource, "getrlimit", limit.get)
    monkeypatch.setattr(resource, "setrlimit", limit.set)
    with pytest.raises(ConfigError) as caught:
        raise_open_file_limit(config_of(150, 20))
    assert str(caught.value) == (
        "submit.concurrency and poll.concurrency: need 234 open files, but this process may open only 128 "
        "(lower them, or raise the hard limit (ulimit -Hn))"
    )
    assert not limit.was_set


@pytest.fixture
def collector() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


@pytest.mark.usefixtures("collector")
def test_the_collector_leaves_what_exists_alone_and_runs_rarely() -> None:
    tune_gc()
    assert gc.get_freeze_count() > 1000
    assert gc.get_threshold()[0] == GC_THRESHOLD
    assert gc.isenabled()
