"""A run of this runner, as a client to be measured."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from processes import KEY_ENV

from runner.config import RunConfig
from runner.simulator.answers import answer_to
from runner.source import Source

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

    def completed(self) -> set[int]:
        """Rows that completed. Raises SystemExit where one has two lines, or the answer to another."""
        rows = set[int]()
        source = Source(RunConfig.model_validate_json(self._config.read_bytes()))
        requests = (source.request(line) for block in source.blocks() for line in block)
        prompts = {request.row: msgspec.json.decode(request.body)["input"] for request in requests}
        with (self._run_dir / "results.jsonl").open("rb") as lines:
            for line in map(msgspec.json.decode, lines):
                row, body = line["row"], line["response"]["body"]
                answer = body["output"][0]["content"][0]["text"]
                if row in rows or answer != answer_to(prompts[row], body["usage"]["output_tokens"]):
                    raise SystemExit(f"row {row} has two lines, or the answer to another")
                if line["status"] == "completed":
                    rows.add(row)
        return rows


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
