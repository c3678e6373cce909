"""Client CPU per job: guide-shaped baseline, bare aiohttp, and the runner on both transports, in one run.

Each is a process of its own, pinned to one core; the simulator has another. Every job is one POST and one
GET of a finished result. What is told is the slope between two sizes, so that starting up does not count,
as the median of several rounds, in which all candidates take turns.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
LATENCY_S = 0.05
SETTINGS = {"latency": {"type": "constant", "mean_s": LATENCY_S}, "output_tokens": 300}


def pinned(core: int, command: list[str]) -> list[str]:
    return command if len(os.sched_getaffinity(0)) < 2 else ["taskset", "-c", str(core), *command]


def start_simulator() -> tuple[subprocess.Popen[str], str]:
    command = [
        sys.executable,
        "-m",
        "runner",
        "simulate",
        "--port",
        "0",
        "--settings-json",
        json.dumps(SETTINGS),
    ]
    process = subprocess.Popen(pinned(1, command), stdout=subprocess.PIPE, text=True)
    assert process.stdout
    return process, process.stdout.readline().split()[-1]


def runner_command(transport: str, address: str, count: int, directory: str) -> list[str]:
    config = {
        "name": f"{transport}-{count}",
        "target": {"base_url": address, "transport": transport, "api_key_env": "BENCHMARK_KEY"},
        "request": {"model": "m", "max_output_tokens": 4000},
        "source": {"count": count},
        # Past the latency: one poll finds the job done.
        "poll": {"strategy": "fixed", "interval_s": 2 * LATENCY_S},
        "sink": {"dir": directory, "on_existing": "new"},
    }
    path = Path(directory) / f"{transport}.yaml"
    path.write_text(json.dumps(config))  # JSON is YAML
    return [sys.executable, "-m", "runner", "run", str(path), "--quiet"]


def measure(command: list[str]) -> tuple[float, float]:
    """CPU seconds and peak megabytes of one process."""
    process = subprocess.Popen(
        pinned(0, command), env={**os.environ, "BENCHMARK_KEY": "benchmark"}, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command} ended with {process.returncode}")
    unit = 1e6 if platform.system() == "Darwin" else 1e3
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs=2, default=(4_000, 16_000), metavar=("SMALL", "LARGE"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round, smaller sizes")
    arguments = parser.parse_args()
    (small, large), rounds = arguments.sizes, arguments.rounds
    if arguments.quick:
        small, large, rounds = 1_000, 4_000, 1
    names = ("guide-shaped baseline", "bare aiohttp", "runner, aiohttp", "runner, openai")
    slopes: dict[str, list[float]] = {name: [] for name in names}
    peaks: dict[str, float] = {}
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with tempfile.TemporaryDirectory() as directory:
        for _ in range(rounds):
            simulator, address = start_simulator()
            for name in names:
                cpu = []
                for count in (small, large):
                    cpu_s, peaks[name] = measure(command_of(name, address, count, directory))
                    cpu.append(cpu_s)
                slopes[name].append((cpu[1] - cpu[0]) / (large - small) * 1e6)
            simulator.terminate()
            simulator.wait()
    print_table(slopes, peaks, small, large)


def command_of(name: str, address: str, count: int, directory: str) -> list[str]:
    if name.startswith("runner"):
        return runner_command(name.split()[-1], address, count, directory)
    script = "guide.py" if name.startswith("guide") else "bare.py"
    return [sys.executable, str(HERE / script), address, str(count)]


def print_table(slopes: dict[str, list[float]], peaks: dict[str, float], small: int, large: int) -> None:
    packages = ", ".join(f"{name} {version(name)}" for name in ("openai", "aiohttp", "uvloop", "msgspec"))
    print(
        f"{platform.python_implementation()} {platform.python_version()} on {platform.machine()}, {packages}"
    )
    print(f"slope between {small:,} and {large:,} jobs, median of {len(slopes['bare aiohttp'])} rounds\n")
    rows = list(zip(*slopes.values(), strict=True))
    bare = list(slopes).index("bare aiohttp")
    guide = list(slopes).index("guide-shaped baseline")
    print("| candidate             | CPU µs/job | ÷ bare | baseline ÷ it | peak MB |")
    print("| --------------------- | ---------: | -----: | ------------: | ------: |")
    for column, name in enumerate(slopes):
        # Ratios within a round, then their median: a machine that slows down slows all of a round.
        over_bare = statistics.median(row[column] / row[bare] for row in rows)
        under_guide = statistics.median(row[guide] / row[column] for row in rows)
        cpu_us, peak = statistics.median(slopes[name]), peaks[name]
        print(f"| {name:<21} | {cpu_us:>10,.0f} | {over_bare:>6.2f} | {under_guide:>13.1f} | {peak:>7,.0f} |")


if __name__ == "__main__":
    main()
