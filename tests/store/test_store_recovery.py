"""After any end: each row is done, open at the service, of unknown fate, or not sent; never two of these."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import RunDirError
from runner.records import Result
from runner.store import Journal, Results, RowSet, RunDir, read_results, recover
from runner.store.journal import read_journal
from tests.store.conftest import Entries

ROWS = 20
ENCODE = msgspec.json.Encoder().encode


@pytest.fixture
def write(run_dir: RunDir, entries: Entries, line: Callable[..., Result]):
    """Write a history: `i3` intent of row 3, `r3` refused, `a3` accepted, `d3` done."""

    def write(history: str) -> None:
        journal, results = Journal(run_dir.journal), Results(run_dir.results)
        for word in history.split():
            row = int(word[1:])
            if word[0] == "d":
                results.write(line(row))
            else:
                make = {"i": entries.intent, "r": entries.refused, "a": entries.accepted}[word[0]]
                journal.write(make(row))
        journal.log.close()
        results.log.close()

    return write


def _recover(run_dir):
    shown = []
    return recover(run_dir, ROWS, shown.append), shown


def test_the_recovery_of_an_empty_directory_is_empty(run_dir: RunDir) -> None:
    recovery, shown = _recover(run_dir)

    assert recovery.is_empty
    assert not shown
    assert not list(run_dir.path.iterdir())


@pytest.mark.parametrize(
    ("history", "done", "still_open", "unacknowledged"),
    [
        ("i0", [], [], [0]),
        ("i0 r0", [], [], []),
        ("i0 r0 i0", [], [], [0]),
        ("i0 r0 i0 a0", [], [0], []),
        ("i0 a0", [], [0], []),
        ("i0 a0 d0", [0], [], []),
        ("i0 d0", [0], [], []),
        ("d0", [0], [], []),
        ("d0 d0", [0], [], []),
        ("i0 i1 a1 i2 r2 i3 a0 a3 d3", [3], [0, 1], []),
        ("i19 a19 i18", [], [19], [18]),
    ],
)
def test_each_row_is_where_its_history_leaves_it(
    run_dir: RunDir, write: Any, history: str, done: Any, still_open: Any, unacknowledged: Any
) -> None:
    write(history)
    recovery, shown = _recover(run_dir)

    assert [row for row in range(ROWS) if row in recovery.done] == done
    assert sorted(recovery.outstanding) == still_open
    assert sorted(recovery.unacknowledged) == unacknowledged
    assert [result.row for result in shown] == done
    assert recovery.is_empty is not bool(done or still_open or unacknowledged)


def test_an_open_job_is_followed_with_what_the_journal_knows_of_it(run_dir: RunDir, write: Any) -> None:
    write("i7 a7")
    job = _recover(run_dir)[0].outstanding[7]

    assert (job.row, job.custom_id, job.id, job.kind, job.attempts) == (7, "id-7", "resp_7", "m", 2)
    assert (job.due, job.sent, job.accepted) == (8.0, 9.0, 10.0)


def test_a_request_of_unknown_fate_is_known_with_its_key_and_times(run_dir: RunDir, write: Any) -> None:
    write("i7")
    doubt = _recover(run_dir)[0].unacknowledged[7]

    assert (doubt.key, doubt.due, doubt.sent) == ("key-7", 8.0, 9.0)


def test_torn_ends_are_read_as_absent_and_a_repair_cuts_and_tells_them(run_dir: RunDir, write: Any) -> None:
    write("i0 a0 d0 i1 a1")
    torn = (run_dir.journal, run_dir.results, run_dir.metrics, run_dir.superseded)
    for path in torn:
        with path.open("ab") as file:
            file.write(b'{"row": 2, "ev')
    sizes = [path.stat().st_size for path in torn]

    looked, _ = _recover(run_dir)
    assert [path.stat().st_size for path in torn] == sizes
    assert run_dir.repair() == dict.fromkeys((path.name for path in torn), 14)
    assert run_dir.repair() == {}
    repaired, _ = _recover(run_dir)
    assert (
        (sorted(looked.outstanding), looked.done.count)
        == (sorted(repaired.outstanding), repaired.done.count)
        == ([1], 1)
    )


@pytest.mark.parametrize("name", ["journal", "results"])
@pytest.mark.parametrize(
    "damage", [b"", b"{}", b"nonsense", b'{"event": "new"}', b"\x00" * 40, b'{"row": "\xff"}']
)
def test_a_damaged_line_in_the_middle_is_named_and_nothing_is_guessed(
    run_dir: RunDir, write: Any, name: str, damage: bytes
) -> None:
    write("i0 a0 d0 d1 i2 a2")
    path = getattr(run_dir, name)
    lines = path.read_bytes().split(b"\n")
    lines[1] = damage
    path.write_bytes(b"\n".join(lines))

    with pytest.raises(RunDirError, match=rf"{name}\.jsonl:2: is damaged") as told:
        _recover(run_dir)
    assert told.value.exit_code == 2


def test_a_line_of_a_later_version_with_more_fields_is_read(
    run_dir: RunDir, line: Callable[..., Result]
) -> None:
    more = {**msgspec.to_builtins(msgspec.json.decode(ENCODE(line(3)))), "batch": "b"}
    run_dir.results.write_bytes(ENCODE(more) + b"\n")

    assert [result.row for result in read_results(run_dir.results)] == [3]


def test_a_result_is_read_back_with_its_usage_and_without_its_body(
    run_dir: RunDir, line: Callable[..., Result]
) -> None:
    results = Results(run_dir.results)
    results.write(line(3))
    results.write(line(4, response=None, status="rejected"))
    results.log.close()
    with_body, without = read_results(run_dir.results)

    assert bytes(with_body.usage) == b'{"input_tokens": 3}'
    assert bytes(without.usage) == b""
    assert with_body.timing == line(3).timing
    assert without.status == "rejected"


def test_entries_come_back_as_they_were_written_whatever_the_text(run_dir: RunDir, entries: Entries) -> None:
    journal = Journal(run_dir.journal)
    written = [
        msgspec.structs.replace(entries.intent(1), custom_id='new\nline " \u2028 \U0001f600'),
        msgspec.structs.replace(entries.accepted(1), job="x" * 100_000),
        entries.refused(1),
    ]
    for entry in written:
        journal.write(entry)
    journal.log.close()

    assert list(read_journal(run_dir.journal)) == written


@given(st.integers(1, 200), st.lists(st.integers(0, 250), max_size=60))
@settings(deadline=None)
def test_rows_is_a_set_of_the_rows_of_the_run(total: Any, added: Any) -> None:
    rows, expected = RowSet(total), set()
    for row in added:
        if row < total:
            rows.add(row)
            expected.add(row)

    assert rows.count == len(expected)
    assert {row for row in range(300) if row in rows} == expected


def test_a_million_rows_take_little_memory() -> None:
    rows = RowSet(1_000_000)

    assert len(rows._bits) == 125_000


LIVES = ("i", "ia", "iad", "iria", "iriad", "iririr", "id", "irid")
"""What can happen to a row, in order."""


@st.composite
def histories(draw):
    """A valid history of several rows, their events interleaved, in the order in which they were written."""
    left = {row: list(draw(st.sampled_from(LIVES))) for row in range(draw(st.integers(1, 6)))}
    history = []
    while any(left.values()):
        row = draw(st.sampled_from([row for row, events in left.items() if events]))
        history.append((left[row].pop(0), row))
    return history


@given(history=histories(), data=st.data())
@settings(deadline=None, max_examples=80)
def test_cut_off_at_any_byte_each_row_is_in_exactly_one_state(
    entries: Entries, line: Callable[..., Result], history: Any, data: Any
) -> None:
    make = {"i": entries.intent, "r": entries.refused, "a": entries.accepted}
    files = {"journal": b"", "results": b""}
    cut = data.draw(st.integers(0, len(history)))
    for what, row in history[:cut]:
        name = "results" if what == "d" else "journal"
        files[name] += ENCODE(line(row) if what == "d" else make[what](row)) + b"\n"
    if cut < len(history):  # the line that was being written
        what, row = history[cut]
        torn = ENCODE(line(row) if what == "d" else make[what](row)) + b"\n"
        files["results" if what == "d" else "journal"] += torn[: data.draw(st.integers(0, len(torn) - 1))]
    with tempfile.TemporaryDirectory() as folder:
        run_dir = RunDir(Path(folder))
        run_dir.journal.write_bytes(files["journal"])
        run_dir.results.write_bytes(files["results"])
        looked, _ = _recover(run_dir)
        run_dir.repair()
        recovery, shown = _recover(run_dir)
        again, _ = _recover(run_dir)

    for row in range(ROWS):
        events = [what for what, of in history[:cut] if of == row]
        expected = "d" if "d" in events else events[-1] if events else "r"
        state = {
            "d": row in recovery.done,
            "a": row in recovery.outstanding,
            "i": row in recovery.unacknowledged,
        }
        assert state == {name: name == expected for name in "dai"}
    assert len(shown) == recovery.done.count == len({result.row for result in shown})
    for other in (looked, again):
        assert (other.outstanding.keys(), other.unacknowledged) == (
            recovery.outstanding.keys(),
            recovery.unacknowledged,
        )
        assert other.done.count == recovery.done.count


@given(history=histories(), data=st.data())
@settings(deadline=None, max_examples=50)
def test_after_a_power_cut_that_took_more_of_one_file_no_row_is_in_two_states(
    entries: Entries, line: Callable[..., Result], history: Any, data: Any
) -> None:
    make = {"i": entries.intent, "r": entries.refused, "a": entries.accepted}
    journal = [ENCODE(make[what](row)) + b"\n" for what, row in history if what != "d"]
    results = [ENCODE(line(row)) + b"\n" for what, row in history if what == "d"]
    with tempfile.TemporaryDirectory() as folder:
        run_dir = RunDir(Path(folder))
        run_dir.journal.write_bytes(b"".join(journal[: data.draw(st.integers(0, len(journal)))]))
        run_dir.results.write_bytes(b"".join(results[: data.draw(st.integers(0, len(results)))]))
        recovery, _ = _recover(run_dir)

    for row in range(ROWS):
        assert (row in recovery.done) + (row in recovery.outstanding) + (row in recovery.unacknowledged) <= 1
