"""A run of the runner as a client to be measured: its config, its command, and what it left behind."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from runner.config import RunConfig
from runner.simulator import answer_to
from runner.source import Source
from scripts.lib.bench.checkout import HERE, Checkout
from scripts.lib.bench.pinned_processes import KEY_ENV, ClientRun, PinnedSimulator, measure_client

NAME: Final = "benchmark"
OUTPUT_TOKENS: Final = 300
"""Output tokens of each job; they make a result of about 2 kB."""
Mode = Literal["background", "batch"]


class BenchmarkRun:
    """A config in a temporary directory, the command that runs it, and its results."""

    def __init__(self, directory: Path, config: dict[str, Any], jobs: int, checkout: Checkout) -> None:
        self._run_dir = directory / NAME
        self._config = directory / "config.yaml"
        self._config.write_text(json.dumps(config))  # JSON is YAML
        self._jobs = jobs
        self._checkout = checkout

    def measure(self, simulator: PinnedSimulator, cores: set[int]) -> ClientRun:
        """Execute the run to its end. Raises SystemExit if it fails."""
        command = self._checkout.command("run", str(self._config), "--quiet")
        return measure_client(simulator, command, self._jobs, cores, self._checkout.env)

    def in_flight(self) -> list[int]:
        """Return the taken slots of `submit.max_in_flight`, once a second: unfinished jobs and open POSTs."""
        with (self._run_dir / "metrics.jsonl").open() as lines:
            samples = [json.loads(line) for line in lines]
        return [sample["in_flight"] + sample["posting"] for sample in samples]

    def completed(self) -> int:
        """Return the number of rows, each of which completed once with its own answer.

        Raises SystemExit if one did not. Another process counts: a client is forked from this process, and
        the kernel would add what this one holds to the client's peak memory.
        """
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as readers:
            return readers.submit(count_completed, self._config, self._run_dir / "results.jsonl").result()


def count_completed(config: Path, results: Path) -> int:
    """Return the number of rows of a config after checking its results; see `BenchmarkRun.completed`."""
    source = Source(RunConfig.model_validate_json(config.read_bytes()))
    requests = (source.request(line) for block in source.blocks() for line in block)
    prompts = {request.row: msgspec.json.decode(request.body)["input"] for request in requests}
    with results.open("rb") as lines:
        for line in map(msgspec.json.decode, lines):
            body, prompt = line["response"]["body"], prompts.pop(line["row"], None)
            answer = body["output"][0]["content"][0]["text"]
            if prompt is None or answer != answer_to(prompt, body["usage"]["output_tokens"]):
                raise SystemExit(f"row {line['row']} has two lines, or the answer to another row")
    if prompts:
        raise SystemExit(f"{len(prompts)} rows have no result")
    return source.survey().rows


@contextmanager
def benchmark_run(
    base_url: str,
    jobs: int,
    *,
    interval_s: float,
    transport: str = "aiohttp",
    mode: Mode = "background",
    checkout: Checkout = HERE,
    **sections: Any,
) -> Iterator[BenchmarkRun]:
    """Prepare a run of `jobs` jobs in a directory that lasts as long as the block.

    Jobs are polled every `interval_s` seconds. `sections` replace sections of the config.
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
        yield BenchmarkRun(Path(directory), {**config, **sections}, jobs, checkout)


def simulator_settings(latency_s: float) -> dict[str, Any]:
    """Return the settings of a simulator whose jobs all have the same latency."""
    return {"latency": {"type": "constant", "mean_s": latency_s}, "output_tokens": OUTPUT_TOKENS}
