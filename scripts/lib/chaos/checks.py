"""What must hold after the last process has ended, whatever happened before; pure functions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from runner.simulator import answer_to, prompt_digest
from runner.store.journal import Acceptance, BatchAcceptance, BatchIntent, Entry, Reopened
from scripts.lib.chaos.input_rows import Row

REJECTED_STATUS_CODE: Final = 400
ViolationKind = Literal["lost", "doubled", "run twice", "otherwise wrong"]


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that does not hold."""

    kind: ViolationKind
    text: str


@dataclass(frozen=True, slots=True)
class ServiceJob:
    """A job as the service itself knows it."""

    id: str
    prompt: str
    """Digest of the prompt."""
    executed: int
    """How many times the service ran it."""
    is_finished: bool


class ResultLine(msgspec.Struct, frozen=True):
    """The fields of a line of `results.jsonl` that the checks need."""

    custom_id: str
    row: int
    status: str
    error: Any
    response: dict[str, Any] | None
    epoch: int = 0

    @property
    def body(self) -> dict[str, Any]:
        """The response object; empty if there is none."""
        return (self.response or {}).get("body") or {}


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is left of a trial."""

    rows: Sequence[Row]
    may_be_uncertain: bool
    """Whether a row may end `uncertain`, because neither a key nor a label shows the fate of its request."""
    most_in_doubt: int
    """The most requests that kills can have left without an acknowledgement."""
    exit_code: int
    results: bytes
    """Content of all `results*.jsonl`."""
    superseded: bytes
    """Content of `superseded.jsonl`."""
    journal: bytes
    """Content of all `journal*.jsonl`."""
    summary: Mapping[str, Any]
    """Content of `summary.json`."""
    report: Mapping[str, Any]
    """Output of `runner report --json`."""
    jobs: Sequence[ServiceJob]
    stats: Mapping[str, int] | None
    """The service's own counts; None if the service has ended with the run."""
    left_behind: Sequence[str] = ()
    """Temporary files that were still in the run directory after a process had ended in order."""


_decode_entry = msgspec.json.Decoder(Entry).decode
_decode_line = msgspec.json.Decoder(ResultLine).decode


def violations(evidence: Evidence) -> Iterator[Violation]:
    """Yield everything that does not hold."""
    lines = yield from _read("results.jsonl", evidence.results)
    superseded = yield from _read("superseded.jsonl", evidence.superseded)
    yield from _torn("journal.jsonl", evidence.journal)
    epochs = yield from _read_journal(evidence.journal)
    yield from _one_line_per_row(evidence.rows, lines)
    yield from _one_line_per_epoch(lines, superseded, epochs)
    jobs = {job.id: job for job in evidence.jobs}
    for line in lines:
        if 0 <= line.row < len(evidence.rows):
            yield from _wrong_line(
                evidence.rows[line.row], line, jobs, may_be_uncertain=evidence.may_be_uncertain
            )
    yield from _ran_twice(evidence.rows, evidence.jobs, epochs)
    yield from _finished_and_lost(evidence, [*lines, *superseded])
    yield from _too_many_in_doubt(lines, evidence.most_in_doubt)
    for name in evidence.left_behind:
        yield _wrong(f"left behind: {name}")
    yield from _counts_differ(evidence, Counter(line.status for line in lines))


def _wrong(text: str) -> Violation:
    return Violation("otherwise wrong", text)


def _torn(name: str, content: bytes) -> Iterator[Violation]:
    if content and not content.endswith(b"\n"):
        yield _wrong(f"{name} ends in the middle of a line: {content[-80:]!r}")


def _whole_lines(content: bytes) -> list[bytes]:
    return content.split(b"\n")[:-1]


def _read(name: str, content: bytes) -> Generator[Violation, None, list[ResultLine]]:
    """Yield what is wrong with a results file, and return its lines."""
    yield from _torn(name, content)
    lines = []
    for number, text in enumerate(_whole_lines(content), 1):
        try:
            lines.append(_decode_line(text))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            yield _wrong(f"{name}:{number} is no result: {error}")
    return lines


def _one_line_per_row(rows: Sequence[Row], lines: Sequence[ResultLine]) -> Iterator[Violation]:
    times = Counter(line.row for line in lines)
    for i, row in enumerate(rows):
        if times[i] == 0:
            yield Violation("lost", f"row {i} ({row.custom_id}) has no line")
        elif times[i] > 1:
            yield Violation("doubled", f"row {i} ({row.custom_id}) has {times[i]} lines")
    for i in times.keys() - range(len(rows)):
        yield _wrong(f"there is no row {i} in the input")


def _one_line_per_epoch(
    lines: Sequence[ResultLine], superseded: Sequence[ResultLine], epochs: Mapping[int, int]
) -> Iterator[Violation]:
    """Check that a retried row has its last result in one file, and each earlier one in the other."""
    for line in lines:
        if line.epoch != epochs.get(line.row, 0):
            yield _wrong(f"the line of row {line.row} is of epoch {line.epoch}, which is not the last")
    times = Counter((line.row, line.epoch) for line in superseded)
    expected = {(row, epoch) for row, last in epochs.items() for epoch in range(last)}
    for row, epoch in expected - times.keys():
        yield Violation("lost", f"the result of row {row} in epoch {epoch} is in no file")
    for (row, epoch), count in times.items():
        if count > 1 or (row, epoch) not in expected:
            yield Violation("doubled", f"superseded.jsonl has row {row}, epoch {epoch}, {count} times")


def _wrong_line(
    row: Row, line: ResultLine, jobs: Mapping[str, ServiceJob], *, may_be_uncertain: bool
) -> Iterator[Violation]:
    """Check a line's id, status and job, and that it has the answer to its row's own prompt."""
    name = f"row {line.row} ({row.custom_id})"
    if line.custom_id != row.custom_id:
        yield _wrong(f"{name} has the custom_id {line.custom_id}")
    if line.status == "uncertain" and may_be_uncertain:
        return
    if row.is_rejected:
        if line.status != "rejected" or (line.error or {}).get("status_code") != REJECTED_STATUS_CODE:
            yield _wrong(f"{name} should be rejected, but ended {line.status}")
        return
    if line.status != "completed":
        yield _wrong(f"{name} ended {line.status}: {line.error}")
        return
    body = line.body
    job = jobs.get(body.get("id", ""))
    if job is None or job.prompt != prompt_digest(row.prompt):
        yield _wrong(f"{name} holds {body.get('id')}, which is no job of its prompt")
        return
    text, expected = text_of(body), answer_to(row.prompt, body["usage"]["output_tokens"])
    if body["status"] != "completed" or text != expected:
        yield _wrong(f"{name} holds {text!r} ({body['status']}) instead of {expected!r}")


def text_of(body: Mapping[str, Any]) -> str:
    """Return the text of a response object, whether `sink.store` was `full` or `text`."""
    return "".join(part["text"] for item in body["output"] for part in item.get("content", ()))


def _ran_twice(
    rows: Sequence[Row], jobs: Sequence[ServiceJob], epochs: Mapping[int, int]
) -> Iterator[Violation]:
    """Check that a row ran once, and once more for each retry by hand. A prompt belongs to one row."""
    row_of = {prompt_digest(row.prompt): i for i, row in enumerate(rows)}
    ids_of = defaultdict(list)
    for job in jobs:
        ids_of[job.prompt].append(job.id)
        if job.executed > 1:
            yield Violation("run twice", f"{job.id} was executed {job.executed} times")
    for prompt, ids in ids_of.items():
        if prompt not in row_of:
            yield _wrong(f"{ids} have a prompt that is in no row")
        elif rows[row_of[prompt]].is_rejected:
            yield _wrong(f"{ids} are of a row that should be rejected")
        elif len(ids) > 1 + epochs.get(row_of[prompt], 0):
            custom_id = rows[row_of[prompt]].custom_id
            yield Violation("run twice", f"{custom_id} was accepted {len(ids)} times: {ids}")


def _finished_and_lost(evidence: Evidence, lines: Sequence[ResultLine]) -> Iterator[Violation]:
    """Check that a line of its row holds each finished job, unless that row is rightly `uncertain`."""
    row_of = {prompt_digest(row.prompt): i for i, row in enumerate(evidence.rows)}
    held: dict[int, set[str]] = defaultdict(set)
    for line in lines:
        is_uncertain = line.status == "uncertain" and evidence.may_be_uncertain
        held[line.row].add("any" if is_uncertain else line.body.get("id", ""))
    for job in evidence.jobs:
        row = row_of.get(job.prompt)
        if row is None or row not in held:
            continue  # already reported
        if job.is_finished and not held[row] & {job.id, "any"}:
            yield Violation("lost", f"{job.id} is finished, but row {row} does not hold it")


def _too_many_in_doubt(lines: Sequence[ResultLine], most: int) -> Iterator[Violation]:
    """Check that kills left no more requests in doubt than were being sent: an acceptance is on record."""
    # Faults of the service left the other uncertain rows in doubt; their `error` names the fault.
    left = sum(line.status == "uncertain" and line.error["type"] == "uncertain" for line in lines)
    if left > most:
        yield _wrong(f"kills left {left} requests in doubt, but at most {most} were being sent")


def _read_journal(content: bytes) -> Generator[Violation, None, dict[int, int]]:
    """Yield what is wrong with the journal, and return the last epoch of each row that was reopened."""
    epochs: dict[int, int] = {}
    first: dict[str, str] = {}
    for number, text in enumerate(_whole_lines(content), 1):
        try:
            entry = _decode_entry(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            yield _wrong(f"journal.jsonl:{number} is no entry: {error}")
            continue
        match entry:
            case Reopened(row=row, epoch=epoch):
                epochs[row] = max(epoch, epochs.get(row, 0))
                continue
            case Acceptance(row=row, epoch=epoch, job=job):
                event, identity = f"row {row} in epoch {epoch} was accepted", job
            case BatchAcceptance(batch=batch, id=id_):
                event, identity = f"batch {batch} was accepted", id_
            case BatchIntent(batch=batch, key=key, rows=rows):
                event, identity = f"batch {batch} was sent", f"{key} of {rows}"
            case _:
                continue
        before = first.setdefault(event, identity)
        if before != identity:
            yield Violation("run twice", f"journal.jsonl:{number}: {event} as {before} and as {identity}")
    return epochs


def _counts_differ(evidence: Evidence, statuses: Mapping[str, int]) -> Iterator[Violation]:
    """Check that summary, report, exit code and the service's stats agree with the results."""
    total, counts, run = len(evidence.rows), evidence.summary["requests"], evidence.summary["run"]
    expected = {"total": total, "open": 0, "unsent": 0, **statuses}
    if {name: count for name, count in counts.items() if count or name in expected} != expected:
        yield _wrong(f"summary.json counts {counts}, results.jsonl has {dict(statuses)}")
    if run["status"] != "complete":
        yield _wrong(f"the status in summary.json is {run['status']}")
    if evidence.report["requests"] != counts or evidence.report["run"] != run:
        yield _wrong(f"summary.json counts {counts}, the report says {evidence.report}")
    if evidence.exit_code != (0 if statuses.get("completed") == total else 1):
        yield _wrong(f"the exit code is {evidence.exit_code} for {dict(statuses)}")
    if evidence.stats is not None:
        executed = sum(job.executed for job in evidence.jobs)
        in_jobs = f"{len(evidence.jobs)} jobs, {executed} executed"
        in_stats = f"{evidence.stats['accepted']} jobs, {evidence.stats['executed']} executed"
        if in_jobs != in_stats:
            yield _wrong(f"/simulator/jobs has {in_jobs}; /simulator/stats has {in_stats}")
