"""The command line: parses, calls a command, returns its exit code. Each command imports what it needs."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Iterable, Sequence

from runner import __version__
from runner.commands.result import CommandResult
from runner.errors import RunnerError
from runner.streams import let_go, open_missing, say


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. What a user can fix is a message, never a traceback."""
    open_missing()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    arguments = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return command(arguments)
    except RunnerError as error:
        _say([str(error)])
        return error.exit_code
    except KeyboardInterrupt:
        _say(["interrupted"])
        return 130
    except BrokenPipeError:
        let_go(sys.stdout)
        return 1
    except OSError as error:
        let_go(sys.stdout)
        _say([f"cannot write: {error.strerror}"])
        return 1


def _say(messages: Iterable[str]) -> None:
    for message in messages:
        for line in message.splitlines():
            say(f"runner: {line}", sys.stderr)


def _print(result: CommandResult) -> int:
    """Print the output of a command. Raises `OSError` if that is not possible."""
    print(result.output, flush=True)
    return result.exit_code


def _end(result: CommandResult) -> int:
    """Print what a command says at its end; nothing happens if nobody can read it."""
    if result.output:
        say(result.output, sys.stdout)
    _say(result.messages)
    return result.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="runner",
        description="Send thousands of background requests to a Responses API and keep every result.",
    )
    parser.add_argument("--version", action="version", version=f"runner {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_run(commands.add_parser("run", help="start a run, or continue it"))
    _add_check(commands.add_parser("check", help="read config and input, and print the plan; sends nothing"))
    _add_report(commands.add_parser("report", help="summarise one run, or several side by side"))
    _add_cancel(commands.add_parser("cancel", help="ask the service to cancel every open job of a run"))
    _add_batches(commands.add_parser("batches", help="list the batches of the service"))
    _add_simulate(commands.add_parser("simulate", help="serve the simulator until stopped"))
    schema = commands.add_parser("schema", help="print the JSON Schema of the config")
    schema.set_defaults(command=_schema)
    return parser


def _add_overridable(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="a YAML file")
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="SECTION.KEY=VALUE",
        action="append",
        default=[],
        help="override one value of the config; can be repeated",
    )


def _add_config(parser: argparse.ArgumentParser) -> None:
    _add_overridable(parser)
    parser.add_argument("--limit", type=_positive, metavar="N", help="send only the first N rows")


def _add_run(parser: argparse.ArgumentParser) -> None:
    _add_config(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--new", action="store_true", help="rename an earlier run, and start over")
    which.add_argument(
        "--retry",
        type=_statuses,
        metavar="STATUS,…",
        default=(),
        help="continue, and retry rows with these statuses: failed, rejected, expired, uncertain, …",
    )
    parser.add_argument(
        "--workers",
        type=_positive,
        metavar="N",
        help="processes that share the rows (engine.workers)",
    )
    parser.add_argument("--quiet", action="store_true", help="print errors only: no progress, no report")
    parser.set_defaults(command=_run)


def _add_check(parser: argparse.ArgumentParser) -> None:
    _add_config(parser)
    parser.set_defaults(command=_check)


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dirs", metavar="RUN_DIR", nargs="+")
    parser.add_argument("--json", action="store_true", help="print the summaries as JSON")
    parser.set_defaults(command=_report)


def _add_cancel(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", metavar="RUN_DIR")
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=60.0,
        metavar="S",
        help="give up after S seconds (default: 60)",
    )
    parser.set_defaults(command=_cancel)


def _add_batches(parser: argparse.ArgumentParser) -> None:
    _add_overridable(parser)
    parser.add_argument(
        "--status", action="store_true", help="show the progress of each batch, with one request for each"
    )
    parser.add_argument(
        "--limit", type=_positive, default=25, metavar="N", help="list only the newest N (default: 25)"
    )
    parser.set_defaults(command=_batches)


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="port; 0 for any free one (default: 8000)")
    parser.add_argument("--config", metavar="CONFIG", help="a run config, for its simulator section")
    parser.add_argument("--state", metavar="FILE", help="keep jobs in FILE over restarts")
    parser.add_argument("--settings-json", help=argparse.SUPPRESS)
    parser.add_argument("--parent-pipe", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(command=_simulate)


def _run(arguments: argparse.Namespace) -> int:
    from runner.config import load

    workers = [f"engine.workers={arguments.workers}"] if arguments.workers else []
    config = load(arguments.config, [*arguments.overrides, *workers])

    from runner.commands.run import Options, run
    from runner.commands.signals import Signals

    options = Options(new=arguments.new, limit=arguments.limit, retry=arguments.retry, quiet=arguments.quiet)
    with Signals() as signals:
        result = run(config, options, signals)
        signals.ignore_to_the_end()
    return _end(result)


def _check(arguments: argparse.Namespace) -> int:
    from runner.config import load

    config = load(arguments.config, arguments.overrides)

    from runner.commands.check import check

    return _print(check(config, arguments.limit))


def _report(arguments: argparse.Namespace) -> int:
    from runner.commands.report import report_runs

    return _print(report_runs(arguments.run_dirs, as_json=arguments.json))


def _cancel(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from runner.commands.cancel import cancel
    from runner.commands.signals import Signals

    with Signals() as signals:
        result = cancel(Path(arguments.run_dir), arguments.timeout, signals)
        signals.ignore_to_the_end()
    return _end(result)


def _batches(arguments: argparse.Namespace) -> int:
    from runner.config import load

    config = load(arguments.config, arguments.overrides)

    from runner.commands.list_batches import list_batches
    from runner.commands.signals import Signals

    with Signals() as signals:
        return _print(list_batches(config, arguments.limit, signals, with_status=arguments.status))


def _simulate(arguments: argparse.Namespace) -> int:
    from runner.commands.simulate import SimulateOptions, simulate

    return simulate(
        SimulateOptions(
            host=arguments.host,
            port=arguments.port,
            config=arguments.config,
            settings_json=arguments.settings_json,
            state=arguments.state,
            parent_pipe=arguments.parent_pipe,
        )
    )


def _schema(arguments: argparse.Namespace) -> int:
    from runner.commands.schema import schema

    return _print(schema())


def _statuses(text: str) -> tuple[str, ...]:
    from runner.commands.retry import statuses_of

    try:
        return statuses_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be more than 0")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
