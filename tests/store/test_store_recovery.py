"""After any end of a session each row is done, outstanding, unacknowledged or unsent; never two of these."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import RunDirError
from runner.store import Journal, Recovery, ResultHead, Results, RowSet, RunDir, ignore, read_results, recover
from runner.store.journal import Acceptance, Entry, Intent, Retraction, read_journal
from tests.store.samples import acceptance, intent, result, retraction

ROWS = 20
ENCODE = msgspec.json.Encoder().encode
ENTRIES: dict[str, Callable[[int], Intent | Retraction | Acceptance]] = {
    "i": intent,
    "r": retraction,
    "a": acceptance,
}
"""The entry for each letter of a history; `d` is a result."""
Step = tuple[str, int]
"""A letter and a row."""


@pytest.fixture
def write(run_dir: RunDir) -> Callable[[str], None]:
    """Return a function that writes a history: "i3 a3 d3" is intent, acceptance and result of row 3."""

    def write(history: str) -> None:
        journal, results = Journal(run_dir.journal), Results(run_dir.results)
        for word in history.split():
            row = int(word[1:])
            if word[0] == "d":
                results.write(result(row))
            else:
                journal.write(ENTRIES[word[0]](row))
        journal.log.close()
        results.log.close()

    return write


def _recover(run_dir: RunDir) -> tuple[Recovery, list[ResultHead]]:
    shown: list[ResultHead] = []
    return recover(run_dir, ROWS, shown.append, ignore), shown


def test_the_recovery_of_an_empty_directory_is_empty(run_dir: RunDir) -> None:
    recovery, shown = _recover(run_dir)

    assert recovery.is_empty
    assert not shown
    assert not list(run_dir.path.iterdir())


@pytest.mark.parametrize(
    ("history", "done", "outstanding", "unacknowledged"),
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
def test_each_row_is_in_the_state_that_its_history_leaves(
    run_dir: RunDir,
    write: Callable[[str], None],
    history: str,
    done: list[int],
    outstanding: list[int],
    unacknowledged: list[int],
) -> None:
    write(history)
    recovery, shown = _recover(run_dir)

    assert [row for row in range(ROWS) if row in recovery.done] == done
    assert sorted(recovery.outstanding) == outstanding
    assert sorted(recovery.unacknowledged) == unacknowledged
    assert [head.row for head in shown] == done
    assert recovery.is_empty is not bool(done or outstanding or unacknowledged)


def test_an_outstanding_job_has_what_the_journal_says_about_it(
    run_dir: RunDir, write: Callable[[str], None]
) -> None:
    write("i7 a7")
    job = _recover(run_dir)[0].outstanding[7]

    assert (job.row, job.custom_id, job.id, job.kind, job.attempts) == (7, "id-7", "resp_7", "m", 2)
    assert (job.due, job.sent, job.accepted) == (8.0, 9.0, 10.0)


def test_an_unacknowledged_request_has_its_key_and_times(
    run_dir: RunDir, write: Callable[[str], None]
) -> None:
    write("i7")
    request = _recover(run_dir)[0].unacknowledged[7]

    assert (request.key, request.due, request.sent) == ("key-7", 8.0, 9.0)


def test_torn_lines_are_not_read_and_a_repair_cuts_and_returns_them(
    run_dir: RunDir, write: Callable[[str], None]
) -> None:
    write("i0 a0 d0 i1 a1")
    torn = (run_dir.journal, run_dir.results, run_dir.metrics, run_dir.superseded)
    for path in torn:
        with path.open("ab") as file:
            file.write(b'{"row": 2, "ev')
    sizes = [path.stat().st_size for path in torn]

    before, _ = _recover(run_dir)
    assert [path.stat().st_size for path in torn] == sizes
    assert run_dir.repair() == dict.fromkeys((path.name for path in torn), 14)
    assert run_dir.repair() == {}
    repaired, _ = _recover(run_dir)
    assert (
        (sorted(before.outstanding), before.done.count)
        == (sorted(repaired.outstanding), repaired.done.count)
        == ([1], 1)
    )


@pytest.mark.parametrize("name", ["journal", "results"])
@pytest.mark.parametrize(
    "damage", [b"", b"{}", b"nonsense", b'{"event": "new"}', b"\x00" * 40, b'{"row": "\xff"}']
)
def test_a_damaged_line_in_the_middle_raises_an_error_with_file_and_line(
    run_dir: RunDir, write: Callable[[str], None], name: str, damage: bytes
) -> None:
    write("i0 a0 d0 d1 i2 a2")
    path = run_dir.path / f"{name}.jsonl"
    lines = path.read_bytes().split(b"\n")
    lines[1] = damage
    path.write_bytes(b"\n".join(lines))

    with pytest.raises(RunDirError, match=rf"{name}\.jsonl:2: is damaged") as raised:
        _recover(run_dir)
    assert raised.value.exit_code == 2


def test_a_line_of_a_later_version_with_more_fields_is_read(run_dir: RunDir) -> None:
    more = {**msgspec.json.decode(ENCODE(result(3)), type=dict[str, object]), "batch": "b"}
    run_dir.results.write_bytes(ENCODE(more) + b"\n")

    assert [head.row for head in read_results(run_dir.results)] == [3]


def test_a_result_is_read_back_with_its_usage_and_without_its_body(run_dir: RunDir) -> None:
    results = Results(run_dir.results)
    results.write(result(3))
    results.write(result(4, response=None, status="rejected"))
    results.log.close()
    with_body, without = read_results(run_dir.results)

    assert bytes(with_body.usage) == b'{"input_tokens": 3}'
    assert bytes(without.usage) == b""
    assert with_body.timing == result(3).timing
    assert without.status == "rejected"


def test_entries_are_read_back_as_they_were_written_whatever_their_text(run_dir: RunDir) -> None:
    journal = Journal(run_dir.journal)
    written: list[Entry] = [
        msgspec.structs.replace(intent(1), custom_id='new\nline " \u2028 \U0001f600'),
        msgspec.structs.replace(acceptance(1), job="x" * 100_000),
        retraction(1),
    ]
    for entry in written:
        journal.write(entry)
    journal.log.close()

    assert list(read_journal(run_dir.journal)) == written


@given(st.integers(1, 200), st.lists(st.integers(0, 250), max_size=60))
@settings(deadline=None)
def test_a_row_set_holds_what_was_added(total: int, added: list[int]) -> None:
    rows, expected = RowSet(total), set[int]()
    for row in added:
        if row < total:
            rows.add(row)
            expected.add(row)

    assert rows.count == len(expected)
    assert {row for row in range(300) if row in rows} == expected


def test_a_set_of_a_million_rows_takes_125_kb() -> None:
    rows = RowSet(1_000_000)

    assert len(rows._bits) == 125_000


LIFE_CYCLES = ("i", "ia", "iad", "iria", "iriad", "iririr", "id", "irid")
"""What can happen to a row, in order."""


@st.composite
def histories(draw: st.DrawFn) -> list[Step]:
    """Draw a valid history of several rows, interleaved in the order in which it was written."""
    left = {row: list(draw(st.sampled_from(LIFE_CYCLES))) for row in range(draw(st.integers(1, 6)))}
    history: list[Step] = []
    while any(left.values()):
        row = draw(st.sampled_from([row for row, letters in left.items() if letters]))
        history.append((left[row].pop(0), row))
    return history


def _lines(history: Sequence[Step]) -> tuple[list[bytes], list[bytes]]:
    """Return the lines of the journal and of the results."""
    journal = [ENCODE(ENTRIES[letter](row)) + b"\n" for letter, row in history if letter != "d"]
    results = [ENCODE(result(row)) + b"\n" for letter, row in history if letter == "d"]
    return journal, results


@given(history=histories(), data=st.data())
@settings(deadline=None, max_examples=80)
def test_after_a_cut_at_any_byte_each_row_is_in_exactly_one_state(
    history: list[Step], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(history)))
    journal, results = _lines(history[:cut])
    if cut < len(history):  # the line that was being written
        torn_journal, torn_results = _lines(history[cut : cut + 1])
        for lines, torn in ((journal, torn_journal), (results, torn_results)):
            lines += [line[: data.draw(st.integers(0, len(line) - 1))] for line in torn]
    with tempfile.TemporaryDirectory() as folder:
        run_dir = RunDir(Path(folder))
        run_dir.journal.write_bytes(b"".join(journal))
        run_dir.results.write_bytes(b"".join(results))
        before, _ = _recover(run_dir)
        run_dir.repair()
        recovery, shown = _recover(run_dir)
        repeated, _ = _recover(run_dir)

    for row in range(ROWS):
        letters = [letter for letter, of in history[:cut] if of == row]
        expected = "d" if "d" in letters else letters[-1] if letters else "r"
        state = {
            "d": row in recovery.done,
            "a": row in recovery.outstanding,
            "i": row in recovery.unacknowledged,
        }
        assert state == {name: name == expected for name in "dai"}
    assert len(shown) == recovery.done.count == len({head.row for head in shown})
    for other in (before, repeated):
        assert (other.outstanding.keys(), other.unacknowledged) == (
            recovery.outstanding.keys(),
            recovery.unacknowledged,
        )
        assert other.done.count == recovery.done.count


@given(history=histories(), data=st.data())
@settings(deadline=None, max_examples=50)
def test_after_a_power_cut_that_took_more_of_one_file_no_row_is_in_two_states(
    history: list[Step], data: st.DataObject
) -> None:
    journal, results = _lines(history)
    with tempfile.TemporaryDirectory() as folder:
        run_dir = RunDir(Path(folder))
        run_dir.journal.write_bytes(b"".join(journal[: data.draw(st.integers(0, len(journal)))]))
        run_dir.results.write_bytes(b"".join(results[: data.draw(st.integers(0, len(results)))]))
        recovery, _ = _recover(run_dir)

    for row in range(ROWS):
        assert (row in recovery.done) + (row in recovery.outstanding) + (row in recovery.unacknowledged) <= 1
