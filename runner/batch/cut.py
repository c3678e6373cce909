"""How the rows of a run would be cut into batches: as the planner does it, but nothing is written."""

from __future__ import annotations

from itertools import islice

import msgspec

from runner.batch.body import Body, item_of
from runner.batch.names import label_of, wire_id
from runner.config import RunConfig
from runner.source import Source

_ANY_RUN = "0" * 32
"""Placeholder for the id of a run that does not exist yet: the length of a label does not depend on it."""


class Cut(msgspec.Struct):
    """The batches that a run would send."""

    counts: list[int] = []
    """Requests in each batch."""
    sizes_bytes: list[int] = []
    """Exact size of the body of each batch."""
    too_large: int = 0
    """Rows that fit into no batch."""
    renamed: int = 0
    """Rows that are renamed for the service, because it does not allow their own ids."""


def cut(config: RunConfig, source: Source, rows: int) -> Cut:
    """Read the first `rows` rows, and return the batches that they would make. Raises `InputError`."""
    section, found = config.batch, Cut()
    lines = islice((line for block in source.blocks() for line in block), rows)
    body, names = _next(config, found), set[str]()
    for line in lines:
        request = source.request(line)
        if body.count == section.max_requests:
            body, names = _close(body, config, found), set()
        name = wire_id(request.custom_id, names)
        item = item_of(name, request.body)
        if body.count and body.size_with(item) > section.max_bytes:
            body, names = _close(body, config, found), set()
            name = wire_id(request.custom_id)
            item = item_of(name, request.body)
        if body.size_with(item) > section.max_bytes:
            found.too_large += 1
            continue
        body.add(item)
        names.add(name)
        found.renamed += name != request.custom_id
    _close(body, config, found)
    return found


def _next(config: RunConfig, found: Cut) -> Body:
    return Body(label_of(config.batch.label or config.name, _ANY_RUN, len(found.counts)))


def _close(body: Body, config: RunConfig, found: Cut) -> Body:
    if body.count:
        found.counts.append(body.count)
        found.sizes_bytes.append(body.size_bytes)
    return _next(config, found)
