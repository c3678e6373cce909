"""Whole results are read without the lock, from finished runs and from runs that write at the same time."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from itertools import count, pairwise
from pathlib import Path
from threading import Event, Thread

import msgspec
import pytest

from runner.config import RunConfig
from runner.errors import RunDirError
from runner.records import Reply, Result
from runner.source import Survey
from runner.store import Journal, ResultReader, Results, RunDir, archive_superseded, read_marks, reopen
from runner.store.journal import Reopened
from tests.processes import ROOT
from tests.store.appending import ROWS_AT_ONCE
from tests.store.samples import result

ROWS = 20


@pytest.fixture
def run(run_dir: RunDir, config: RunConfig, survey: Survey) -> RunDir:
    """Return a run of 20 rows without any result."""
    run_dir.create(config, survey, "key")
    return run_dir


def write(path: Path, *results: Result) -> None:
    """Append results to a file."""
    log = Results(path)
    log.write(*results)
    log.log.close()


def read(run_dir: RunDir) -> list[Result]:
    return list(ResultReader(run_dir.path))


def test_whole_results_are_read_in_the_order_of_the_file(run: RunDir) -> None:
    written = [result(3), result(1, response=None, status="rejected"), result(2, epoch=0)]
    write(run.results, *written)

    assert read(run) == written
    assert [bytes(it.response.body) for it in read(run) if it.response] == [
        b'{"id": "resp_3", "output": [], "usage": {"input_tokens": 3}}',
        b'{"id": "resp_2", "output": [], "usage": {"input_tokens": 3}}',
    ]


def test_a_body_is_read_as_it_was_written_byte_for_byte(run: RunDir) -> None:
    body = b'{"id":"x", "n": 1e400, "text": "\\ud83d\\ude00 \xe2\x80\xa8", "output":[  ]}'
    write(run.results, result(0, response=Reply(200, "req", msgspec.Raw(body))))

    (only,) = read(run)
    assert only.response
    assert bytes(only.response.body) == body


def test_the_files_of_all_workers_are_read_one_after_the_other(run: RunDir) -> None:
    write(run.files(10).results, result(5))
    write(run.files(2).results, result(4), result(1))
    write(run.results, result(7))

    assert [it.row for it in read(run)] == [7, 4, 1, 5]


def test_a_run_without_results_has_none(run: RunDir) -> None:
    assert read(run) == []
    run.results.touch()
    assert read(run) == []


def test_reading_changes_nothing_and_needs_no_lock(run: RunDir) -> None:
    write(run.results, result(1))
    with run.results.open("ab") as file:
        file.write(b'{"torn')
    run.lock()
    before = {path.name: path.read_bytes() for path in run.path.iterdir()}

    assert [it.row for it in read(run)] == [1]
    assert {path.name: path.read_bytes() for path in run.path.iterdir()} == before
    run.unlock()


def test_a_file_that_ends_at_any_byte_has_its_whole_lines(run: RunDir) -> None:
    write(run.results, result(0), result(1))
    content = run.results.read_bytes()
    for end in range(len(content) + 1):
        run.results.write_bytes(content[:end])
        assert len(read(run)) == content[:end].count(b"\n")


def test_each_iteration_reads_the_run_as_it_is_when_it_begins(run: RunDir) -> None:
    reader = ResultReader(run.path)
    write(run.results, result(0), result(1))
    first = iter(reader)
    assert next(first).row == 0
    write(run.results, result(2))

    assert [it.row for it in first] == [1]
    assert [it.row for it in reader] == [0, 1, 2]


def test_a_result_of_an_earlier_epoch_is_not_the_last_word(run: RunDir) -> None:
    write(run.results, result(0), result(1, status="failed"), result(2, status="failed"))
    journal = Journal(run.journal)
    journal.write(*(Reopened(row=row, epoch=1, status="failed", at=1.0) for row in (1, 2)))
    journal.log.close()
    write(run.files(0).results, result(2, epoch=1))

    expected = [(0, 0), (2, 1)]
    assert [(it.row, it.epoch) for it in read(run)] == expected, "killed before the old results were moved"
    archive_superseded(run)
    assert [(it.row, it.epoch) for it in read(run)] == expected


def test_a_row_with_two_results_has_its_first(run: RunDir) -> None:
    write(run.results, result(1, polls=7))
    write(run.files(0).results, result(1, polls=9), result(2))

    assert [(it.row, it.polls) for it in read(run)] == [(1, 7), (2, 2)]


@pytest.mark.parametrize("name", ["results.jsonl", "results-1.jsonl"])
@pytest.mark.parametrize("damage", [b"", b"{}", b"nonsense", b"\x00" * 40, b'{"row": "\xff"}'])
def test_a_damaged_line_raises_an_error_with_file_and_line_after_the_lines_before_it(
    run: RunDir, name: str, damage: bytes
) -> None:
    path = run.path / name
    write(path, result(0), result(1), result(2))
    lines = path.read_bytes().split(b"\n")
    lines[1] = damage
    path.write_bytes(b"\n".join(lines))
    results = iter(ResultReader(run.path))

    assert next(results).row == 0
    with pytest.raises(RunDirError, match=rf"{name}:2: is damaged"):
        next(results)


@pytest.mark.parametrize("name", ["nowhere", "empty", "file"])
def test_a_path_without_a_run_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()

    with pytest.raises(RunDirError, match="is not a run directory"):
        ResultReader(tmp_path / name)


def test_a_run_whose_manifest_was_lost_is_refused(run: RunDir) -> None:
    write(run.results, result(0))
    run.manifest.unlink()

    with pytest.raises(RunDirError, match=r"manifest\.json: is not the manifest of a run"):
        ResultReader(run.path)


def test_memory_does_not_grow_with_the_number_of_results(run: RunDir) -> None:
    body = msgspec.Raw(b'{"id": "x", "output": "' + b"x" * 500_000 + b'"}')
    for row in range(ROWS):
        write(run.results, result(row, response=Reply(200, None, body)))
    tracemalloc.start()
    sizes_bytes = [len(bytes(it.response.body)) for it in ResultReader(run.path) if it.response]
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert sum(sizes_bytes) > ROWS * 500_000
    assert peak_bytes < 4_000_000, "a few lines of 500 kB"


@pytest.mark.parametrize("workers", [1, 3])
def test_while_workers_append_a_reading_has_the_first_lines_of_each_file(run: RunDir, workers: int) -> None:
    command = [sys.executable, "-m", "tests.store.appending", str(run.path), str(workers)]
    readings: list[list[int]] = [[]]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, text=True) as writer:
        assert writer.stdin
        for asked in range(ROWS_AT_ONCE, 11 * ROWS_AT_ONCE, ROWS_AT_ONCE):
            print(file=writer.stdin, flush=True)
            while len(readings[-1]) < asked:
                readings.append([it.row for it in read(run)])
        writer.stdin.close()

    for rows, before in pairwise(reversed(readings)):
        assert len(rows) >= len(before)
        parts = [[row for row in before if row % workers == worker] for worker in range(workers)]
        assert parts == [
            list(range(worker, worker + workers * len(part), workers)) for worker, part in enumerate(parts)
        ]
        assert before == [row for part in parts for row in part]


def test_while_rows_are_retried_a_row_has_one_result_at_most_and_never_an_older_one(run: RunDir) -> None:
    write(run.results, *(result(row, status="failed") for row in range(ROWS)))
    is_enough = Event()
    retrying = Thread(target=_retry_until, args=(run, is_enough))
    readings: list[dict[int, int]] = [{}]
    retrying.start()
    try:
        while len(readings) < 8:
            results = read(run)
            epochs = {it.row: it.epoch for it in results}
            assert len(epochs) == len(results), "a row had two results"
            if epochs != readings[-1]:
                readings.append(epochs)
    finally:
        is_enough.set()
        retrying.join()

    for row in range(ROWS):
        of_row = [reading[row] for reading in readings if row in reading]
        assert of_row == sorted(of_row)
    assert len(read(run)) == ROWS


def _retry_until(run: RunDir, is_enough: Event) -> None:
    """Retry all rows until it is enough, each time in the file of another worker; all fail."""
    for session in count():
        if is_enough.is_set():
            return
        assert reopen(run, ["failed"], ROWS, 1.0) == ROWS
        epochs = read_marks(*run.journals).epochs
        for row in range(ROWS):
            write(run.files(session % 2).results, result(row, status="failed", epoch=epochs[row]))


@pytest.fixture(params=["list", "first"])
def use(request: pytest.FixtureRequest) -> Callable[[ResultReader], object]:
    """Return a way to use a reader: to its end, or not."""
    ways: dict[str, Callable[[ResultReader], object]] = {"list": list, "first": lambda it: next(iter(it))}
    return ways[request.param]


def test_a_reading_leaves_no_file_open(run: RunDir, use: Callable[[ResultReader], object]) -> None:
    write(run.results, result(0), result(1))
    write(run.files(0).results, result(2))
    reader = ResultReader(run.path)
    before = len(list(Path("/proc/self/fd").iterdir()))

    use(reader)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
