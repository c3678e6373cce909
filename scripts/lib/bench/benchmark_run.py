"""A run of this runner, as a client to be measured."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import msgspec

from runner.config import RunConfig
from runner.simulator import answer_to
from runner.source import Source
from scripts.lib.bench.pinned_processes import KEY_ENV

NAME = "benchmark"
OUTPUT_TOKENS = 300
"""Makes a result of about 2 kB."""


class Run:
    """A config, the command that runs it, and what the run left behind."""

    def __init__(self, directory: Path, config: dict[str, Any]) -> None:
        self._run_dir = directory / NAME
        self._config = directory / "config.yaml"
        self._config.write_text(json.dumps(config))  # JSON is YAML
        self.command = [sys.executable, "-m", "runner", "run", str(self._config), "--quiet"]

    def in_flight(self) -> list[int]:
        """Places taken of `submit.max_in_flight`, once a second: jobs not yet done, and POSTs under way."""
        with (self._run_dir / "metrics.jsonl").open() as lines:
            samples = [json.loads(line) for line in lines]
        return [sample["in_flight"] + sample["posting"] for sample in samples]

    def completed(self) -> int:
        """Rows that completed, each once and with its own answer. Raises SystemExit where one did not.

        Told by another process: a client is forked from this one, and the kernel counts what this one holds
        into the client's peak.
        """
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as readers:
            return readers.submit(count_completed, self._config, self._run_dir / "results.jsonl").result()


def count_completed(config: Path, results: Path) -> int:
    """See `Run.completed`."""
    source = Source(RunConfig.model_validate_json(config.read_bytes()))
    requests = (source.request(line) for block in source.blocks() for line in block)
    prompts = {request.row: msgspec.json.decode(request.body)["input"] for request in requests}
    with results.open("rb") as lines:
        for line in map(msgspec.json.decode, lines):
            body, prompt = line["response"]["body"], prompts.pop(line["row"], None)
            answer = body["output"][0]["content"][0]["text"]
            if prompt is None or answer != answer_to(prompt, body["usage"]["output_tokens"]):
                raise SystemExit(f"row {line['row']} has two lines, or the answer to another")
    if prompts:
        raise SystemExit(f"{len(prompts)} rows have no result")
    return source.survey().rows


@contextmanager
def run(
    base_url: str,
    jobs: int,
    *,
    interval_s: float,
    transport: str = "aiohttp",
    mode: str = "background",
    **sections: Any,
) -> Iterator[Run]:
    """A run of so many jobs, polled every `interval_s`, in a directory that lasts as long as the block.

    `sections` are merged into the config.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        config = {
            "name": NAME,
            "target": {"base_url": base_url, "transport": transport, "mode": mode, "api_key_env": KEY_ENV},
            "request": {"model": "m", "max_output_tokens": 4_000},
            "source": {"count": jobs},
            "poll": {"strategy": "fixed", "interval_s": interval_s},
            "sink": {"dir": directory},
        }
        yield Run(Path(directory), {**config, **sections})


def service(latency_s: float) -> dict[str, Any]:
    """Settings of a simulator whose jobs all take as long."""
    return {"latency": {"type": "constant", "mean_s": latency_s}, "output_tokens": OUTPUT_TOKENS}
