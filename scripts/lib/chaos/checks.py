"""What must hold after the last process has ended, whatever happened before; pure functions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from runner.simulator import answer_to, prompt_digest
from runner.store.journal import Acceptance, BatchAcceptance, BatchIntent, Entry, Reopened
from scripts.lib.chaos.input_rows import Row

REFUSED: Final = 400
Sort = Literal["lost", "doubled", "run twice", "otherwise wrong"]
_decode_entry = msgspec.json.Decoder(Entry).decode


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that does not hold."""

    sort: Sort
    what: str


@dataclass(frozen=True, slots=True)
class ServiceJob:
    """What the service itself knows of a job; `prompt` is the digest that stands for it."""

    id: str
    prompt: str
    executed: int
    is_finished: bool


class Line(msgspec.Struct, frozen=True):
    """A line of `results.jsonl`, as far as it matters here."""

    custom_id: str
    row: int
    status: str
    error: Any
    response: dict[str, Any] | None
    epoch: int = 0

    @property
    def body(self) -> dict[str, Any]:
        """The response object; empty where there is none."""
        return (self.response or {}).get("body") or {}


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is left of a trial."""

    rows: Sequence[Row]
    may_doubt: bool
    """A row may end `uncertain`: its acknowledgement was lost, and neither key nor label tells its fate."""
    most_in_doubt: int
    """Requests that processes can have left without an acknowledgement: as many as each sent at once."""
    exit_code: int
    results: bytes
    superseded: bytes
    journal: bytes
    summary: Mapping[str, Any]
    """`summary.json`"""
    report: Mapping[str, Any]
    """What `runner report --json` says."""
    jobs: Sequence[ServiceJob]
    stats: Mapping[str, int] | None
    """The service's own counts; None where it has ended with the run."""
    left_behind: Sequence[str] = ()
    """What stood in the run directory after an end in order, and should not."""


_decode_line = msgspec.json.Decoder(Line).decode


def violations(evidence: Evidence) -> Iterator[Violation]:
    """Everything that does not hold; nothing, if all is well."""
    lines: list[Line] = []
    superseded: list[Line] = []
    for name, content, into in (
        ("results.jsonl", evidence.results, lines),
        ("superseded.jsonl", evidence.superseded, superseded),
    ):
        yield from _torn(name, content)
        for number, text in enumerate(_whole_lines(content), 1):
            try:
                into.append(_decode_line(text))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                yield Violation("otherwise wrong", f"{name}:{number} is no result: {error}")
    yield from _torn("journal.jsonl", evidence.journal)
    epochs: dict[int, int] = {}
    yield from _journal_agrees(evidence.journal, epochs)
    yield from _each_row_once(evidence.rows, lines)
    yield from _each_epoch_once(lines, superseded, epochs)
    by_id = {job.id: job for job in evidence.jobs}
    for line in lines:
        if 0 <= line.row < len(evidence.rows):
            yield from _right(evidence.rows[line.row], line, by_id, evidence.may_doubt)
    yield from _run_once(evidence.rows, evidence.jobs, epochs)
    yield from _none_lost(evidence, [*lines, *superseded])
    yield from _few_in_doubt(lines, evidence.most_in_doubt)
    for name in evidence.left_behind:
        yield Violation("otherwise wrong", f"left behind: {name}")
    yield from _counts_agree(evidence, Counter(line.status for line in lines))


def _torn(name: str, content: bytes) -> Iterator[Violation]:
    if content and not content.endswith(b"\n"):
        yield Violation("otherwise wrong", f"{name} ends in the middle of a line: {content[-80:]!r}")


def _whole_lines(content: bytes) -> list[bytes]:
    return content.split(b"\n")[:-1]


def _each_row_once(rows: Sequence[Row], lines: Sequence[Line]) -> Iterator[Violation]:
    times = Counter(line.row for line in lines)
    for i, row in enumerate(rows):
        if times[i] == 0:
            yield Violation("lost", f"row {i} ({row.custom_id}) has no line")
        elif times[i] > 1:
            yield Violation("doubled", f"row {i} ({row.custom_id}) has {times[i]} lines")
    for i in times.keys() - range(len(rows)):
        yield Violation("otherwise wrong", f"there is no row {i} in the input")


def _each_epoch_once(
    lines: Sequence[Line], superseded: Sequence[Line], epochs: Mapping[int, int]
) -> Iterator[Violation]:
    """A row that was tried again has its last word in one file, and each earlier one in the other."""
    for line in lines:
        if line.epoch != epochs.get(line.row, 0):
            yield Violation("otherwise wrong", f"row {line.row} is of epoch {line.epoch}, not the last")
    times = Counter((line.row, line.epoch) for line in superseded)
    expected = {(row, epoch) for row, last in epochs.items() for epoch in range(last)}
    for row, epoch in expected - times.keys():
        yield Violation("lost", f"what row {row} said in epoch {epoch} is in no file")
    for (row, epoch), count in times.items():
        if count > 1 or (row, epoch) not in expected:
            yield Violation("doubled", f"superseded.jsonl has row {row}, epoch {epoch}, {count} times")


def _right(row: Row, line: Line, by_id: Mapping[str, ServiceJob], may_doubt: bool) -> Iterator[Violation]:
    """The line is this row's: its id, how it ended, its own job and the answer to its own prompt."""
    said = f"row {line.row} ({row.custom_id})"
    if line.custom_id != row.custom_id:
        yield Violation("otherwise wrong", f"{said} has the custom_id {line.custom_id}")
    if line.status == "uncertain" and may_doubt:
        return
    if row.is_refused:
        if line.status != "rejected" or (line.error or {}).get("status_code") != REFUSED:
            yield Violation("otherwise wrong", f"{said} was to be refused, and ended {line.status}")
        return
    if line.status != "completed":
        yield Violation("otherwise wrong", f"{said} ended {line.status}: {line.error}")
        return
    body = line.body
    job = by_id.get(body.get("id", ""))
    if job is None or job.prompt != prompt_digest(row.prompt):
        yield Violation("otherwise wrong", f"{said} holds {body.get('id')}, which is no job of its prompt")
        return
    text, expected = text_of(body), answer_to(row.prompt, body["usage"]["output_tokens"])
    if body["status"] != "completed" or text != expected:
        yield Violation("otherwise wrong", f"{said} holds {text!r} ({body['status']}), not {expected!r}")


def text_of(body: Mapping[str, Any]) -> str:
    """The text of a response object, as it was received or cut down to its text."""
    return "".join(part["text"] for item in body["output"] for part in item.get("content", ()))


def _run_once(
    rows: Sequence[Row], jobs: Sequence[ServiceJob], epochs: Mapping[int, int]
) -> Iterator[Violation]:
    """A prompt is one row's alone; a row runs once, and once more each time it is tried again by hand."""
    known = {prompt_digest(row.prompt): i for i, row in enumerate(rows)}
    ids = defaultdict(list)
    for job in jobs:
        ids[job.prompt].append(job.id)
        if job.executed > 1:
            yield Violation("run twice", f"{job.id} was executed {job.executed} times")
    for prompt, accepted in ids.items():
        if prompt not in known:
            yield Violation("otherwise wrong", f"{accepted} are of a prompt that is in no row")
        elif rows[known[prompt]].is_refused:
            yield Violation("otherwise wrong", f"{accepted} are of a row that was to be refused")
        elif len(accepted) > 1 + epochs.get(known[prompt], 0):
            custom_id = rows[known[prompt]].custom_id
            yield Violation("run twice", f"{custom_id} was accepted {len(accepted)} times: {accepted}")


def _none_lost(evidence: Evidence, lines: Sequence[Line]) -> Iterator[Violation]:
    """What the service finished is held by its row's line or, without keys, its row is `uncertain`."""
    rows = {prompt_digest(row.prompt): i for i, row in enumerate(evidence.rows)}
    held: dict[int, set[str]] = defaultdict(set)
    for line in lines:
        uncertain = line.status == "uncertain" and evidence.may_doubt
        held[line.row].add("any" if uncertain else line.body.get("id", ""))
    for job in evidence.jobs:
        row = rows.get(job.prompt)
        if row is None or row not in held:
            continue  # told already
        if job.is_finished and not held[row] & {job.id, "any"}:
            yield Violation("lost", f"{job.id} was finished, and row {row} does not hold it")


def _few_in_doubt(lines: Sequence[Line], most: int) -> Iterator[Violation]:
    """An acceptance that was received leaves no doubt after a kill: it is on record."""
    # Of the others, the service's faults left the fate in doubt, and `error` says which.
    left = sum(line.status == "uncertain" and line.error["type"] == "uncertain" for line in lines)
    if left > most:
        yield Violation("otherwise wrong", f"kills left {left} requests in doubt, of at most {most}")


def _journal_agrees(content: bytes, epochs: dict[int, int]) -> Iterator[Violation]:
    """Notes in `epochs` the last epoch of each row that was reopened."""
    first: dict[str, str] = {}
    for number, text in enumerate(_whole_lines(content), 1):
        try:
            entry = _decode_entry(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            yield Violation("otherwise wrong", f"journal.jsonl:{number} is no entry: {error}")
            continue
        match entry:
            case Reopened(row=row, epoch=epoch):
                epochs[row] = max(epoch, epochs.get(row, 0))
                continue
            case Acceptance(row=row, epoch=epoch, job=job):
                what, who = f"row {row} in epoch {epoch} was accepted", job
            case BatchAcceptance(batch=batch, id=id_):
                what, who = f"batch {batch} was accepted", id_
            case BatchIntent(batch=batch, key=key, rows=rows):
                what, who = f"batch {batch} was sent", f"{key} of {rows}"
            case _:
                continue
        before = first.setdefault(what, who)
        if before != who:
            yield Violation("run twice", f"journal.jsonl:{number}: {what} as {before} and as {who}")


def _counts_agree(evidence: Evidence, statuses: Mapping[str, int]) -> Iterator[Violation]:
    """Summary, report, exit code and the service's stats agree."""
    total, told = len(evidence.rows), evidence.summary["requests"]
    expected = {"total": total, "open": 0, "unsent": 0, **statuses}
    if {name: count for name, count in told.items() if count or name in expected} != expected:
        yield Violation("otherwise wrong", f"summary.json says {told}, results.jsonl {dict(statuses)}")
    if evidence.summary["run"]["status"] != "complete":
        yield Violation("otherwise wrong", f"summary.json says {evidence.summary['run']['status']}")
    if evidence.report["requests"] != told or evidence.report["run"] != evidence.summary["run"]:
        yield Violation("otherwise wrong", f"summary.json says {told}, the report {evidence.report}")
    if evidence.exit_code != (0 if statuses.get("completed") == total else 1):
        yield Violation("otherwise wrong", f"exit code {evidence.exit_code} for {dict(statuses)}")
    if evidence.stats is not None:
        executed = sum(job.executed for job in evidence.jobs)
        told_by_service = (evidence.stats["accepted"], evidence.stats["executed"])
        if told_by_service != (len(evidence.jobs), executed):
            said = f"{len(evidence.jobs)} jobs, {executed} executed; the stats say {told_by_service}"
            yield Violation("otherwise wrong", f"/simulator/jobs says {said}")
