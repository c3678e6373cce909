"""`metrics.jsonl`: a line per sample, after those of earlier sessions."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from runner.errors import StorageError
from runner.measure.outputs.metrics_log import MetricsLog, last_sample
from runner.measure.sample import CompletionTimes, Retries, Sample

SAMPLE = Sample(
    at=1002.0,
    wall_s=2.0,
    began=1000.0,
    requests={"completed": 2},
    done=2,
    in_flight=5,
    posting=1,
    polls=4,
    accepting_s=1.5,
    accepted_per_s=3.5,
    completed_per_s=1.0,
    polls_per_s=2.0,
    wire={"requests": 21, "sent_bytes": 0, "received_bytes": 0},
    retries=Retries(submit={"429": 1}, poll={}),
    completion_s=CompletionTimes(p50=1.0, p95=None),
    cpu_share=0.5,
    cpu_s=1.0,
    loop_lag_p99_s=None,
    rss_bytes=1000,
)
LINE = (
    b'{"at":1002.0,"wall_s":2.0,"began":1000.0,"requests":{"completed":2},"done":2,"in_flight":5,'
    b'"posting":1,"polls":4,"accepting_s":1.5,"accepted_per_s":3.5,"completed_per_s":1.0,"polls_per_s":2.0,'
    b'"wire":{"requests":21,"sent_bytes":0,"received_bytes":0},"retries":{"submit":{"429":1},"poll":{}},'
    b'"completion_s":{"p50":1.0,"p95":null},"cpu_share":0.5,"cpu_s":1.0,"loop_lag_p99_s":null,'
    b'"rss_bytes":1000}\n'
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def test_a_sample_is_a_line_with_the_keys_and_the_order_of_the_contract(path: Path) -> None:
    log = MetricsLog(path)
    log.start()
    log.add(SAMPLE)
    log.add(SAMPLE)
    log.stop()

    assert path.read_bytes() == 2 * LINE
    assert last_sample(path) == msgspec.to_builtins(SAMPLE)


def test_a_later_session_appends_after_the_last_whole_line(path: Path) -> None:
    path.write_bytes(b'{"wall_s": 7.0}\n{"wall_s": 8.')
    assert last_sample(path) == {"wall_s": 7.0}
    log = MetricsLog(path)
    log.start()
    log.add(SAMPLE)
    log.stop()

    assert path.read_bytes() == b'{"wall_s": 7.0}\n' + LINE


def test_a_file_that_cannot_be_opened_is_a_storage_error(path: Path) -> None:
    path.mkdir()

    with pytest.raises(StorageError):
        MetricsLog(path).start()


@pytest.mark.parametrize("content", [None, b"", b'{"wall_s": 8.', b"[1]\n", b"\xff\n", b"{\n", b"\n"])
def test_metrics_that_say_nothing_are_an_empty_sample(path: Path, content: bytes | None) -> None:
    if content is not None:
        path.write_bytes(content)

    assert last_sample(path) == {}
