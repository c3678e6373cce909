"""The command line: parse, call, exit code. Heavy parts are imported by the command that needs them."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Iterable, Sequence

from runner import __version__
from runner.errors import RunnerError
from runner.streams import let_go, open_missing, say


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. What a user can mend ends in a message, no traceback."""
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="runner",
        description="Send thousands of background requests to a Responses API and keep every result.",
    )
    parser.add_argument("--version", action="version", version=f"runner {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_run(commands.add_parser("run", help="start a run, or continue it"))
    _add_check(commands.add_parser("check", help="read config and input, print the plan; sends nothing"))
    _add_report(commands.add_parser("report", help="sum up one run, or compare several"))
    _add_cancel(commands.add_parser("cancel", help="ask the service to cancel every open job of a run"))
    _add_batches(commands.add_parser("batches", help="list the batches that the service has"))
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
        help="override one value of the config; may be given many times",
    )


def _add_config(parser: argparse.ArgumentParser) -> None:
    _add_overridable(parser)
    parser.add_argument("--limit", type=_positive, metavar="N", help="only the first N rows")


def _add_run(parser: argparse.ArgumentParser) -> None:
    _add_config(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--new", action="store_true", help="set an earlier run aside and start afresh")
    which.add_argument(
        "--retry",
        type=_statuses,
        metavar="STATUS,…",
        default=(),
        help="continue, and send rows anew that ended so: failed, rejected, expired, uncertain, …",
    )
    parser.add_argument(
        "--workers", type=_positive, metavar="N", help="processes to share the work (engine.workers)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress, no report; errors are still told")
    parser.set_defaults(command=_run)


def _add_check(parser: argparse.ArgumentParser) -> None:
    _add_config(parser)
    parser.set_defaults(command=_check)


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dirs", metavar="RUN_DIR", nargs="+")
    parser.add_argument("--json", action="store_true", help="the summaries as JSON")
    parser.set_defaults(command=_report)


def _add_cancel(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", metavar="RUN_DIR")
    parser.add_argument(
        "--timeout", type=_seconds, default=60.0, metavar="S", help="seconds to try it for (default: 60)"
    )
    parser.set_defaults(command=_cancel)


def _add_batches(parser: argparse.ArgumentParser) -> None:
    _add_overridable(parser)
    parser.add_argument("--status", action="store_true", help="ask for the progress of each, too")
    parser.add_argument(
        "--limit", type=_positive, default=25, metavar="N", help="only the newest N (default: 25)"
    )
    parser.set_defaults(command=_batches)


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0: any free one (default: 8000)")
    parser.add_argument("--config", metavar="CONFIG", help="a run config, for its simulator section")
    parser.add_argument("--state", metavar="FILE", help="remember jobs in FILE over restarts")
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
        if not arguments.quiet:
            _print_report(f"{config.sink.dir}/{config.name}")
        if result.exit_code or not arguments.quiet:
            _say(result.messages)
    return result.exit_code


def _print_report(run_dir: str) -> None:
    """After a run: whatever goes wrong here does not change how the run ended."""
    from runner.report import report

    try:
        text = report([run_dir], as_json=False)
    except RunnerError as error:
        _say([f"no report: {error}"])
    else:
        say(text, sys.stdout)


def _check(arguments: argparse.Namespace) -> int:
    from runner.config import load

    config = load(arguments.config, arguments.overrides)

    from runner.commands.check import plan

    print(plan(config, arguments.limit))
    return 0


def _report(arguments: argparse.Namespace) -> int:
    from runner.report import report

    print(report(arguments.run_dirs, as_json=arguments.json))
    return 0


def _cancel(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from runner.commands.cancel import cancel
    from runner.commands.signals import Signals

    with Signals() as signals:
        result = cancel(Path(arguments.run_dir), arguments.timeout, signals)
        signals.ignore_to_the_end()
        say(result.output, sys.stdout)
        _say(result.messages)
    return result.exit_code


def _batches(arguments: argparse.Namespace) -> int:
    from runner.config import load

    config = load(arguments.config, arguments.overrides)

    from runner.commands.list_batches import batches
    from runner.commands.signals import Signals

    with Signals() as signals:
        print(batches(config, arguments.limit, signals, with_status=arguments.status))
    return 0


def _simulate(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from runner.config import Simulator, load
    from runner.simulator import serve_forever

    settings = Simulator()
    if arguments.settings_json:
        settings = Simulator.model_validate_json(arguments.settings_json)
    elif arguments.config:
        settings = load(arguments.config).simulator
    state = Path(arguments.state) if arguments.state else None
    return serve_forever(settings, arguments.host, arguments.port, state, arguments.parent_pipe)


def _schema(arguments: argparse.Namespace) -> int:
    import json

    from runner.config import RunConfig

    dialect = "https://json-schema.org/draft/2020-12/schema"
    print(json.dumps({"$schema": dialect, **RunConfig.model_json_schema()}, indent=2))
    return 0


def _statuses(text: str) -> tuple[str, ...]:
    """What `--retry` takes: any but `completed`, which would be paid for twice."""
    from runner.records import RESULT_STATUSES

    words = tuple(dict.fromkeys(word.strip() for word in text.split(",")))
    known = RESULT_STATUSES[1:]
    for word in words:
        if word not in known:
            raise argparse.ArgumentTypeError(f"{word!r} is none of {', '.join(known)}")
    return words


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
