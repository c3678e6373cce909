"""The command line: what it parses, which command it calls, and how errors end."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner import __version__
from runner.cli import main
from runner.commands.result import CommandResult
from runner.commands.run import Options
from runner.config import RunConfig
from runner.errors import ConfigError, KeyRefused, Problem

COMMANDS = ("run", "check", "report", "cancel", "batches", "simulate", "schema")


def exit_code_of(*arguments: str) -> int:
    """Return the exit code of a command line that argparse answers by itself."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        *([command, "--help"] for command in ("run", "check", "report", "cancel", "batches", "simulate")),
    ],
    ids=" ".join,
)
def test_every_command_explains_itself(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(*arguments) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"usage: runner{' ' + arguments[0] if len(arguments) > 1 else ''}")
    assert err == ""


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of("--version") == 0
    assert capsys.readouterr().out == f"runner {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "required: COMMAND"),
        (["nonsense"], "invalid choice: 'nonsense'"),
        (["run"], "required: CONFIG"),
        (["run", "c.yaml", "--limit", "0"], "argument --limit: must be at least 1"),
        (["run", "c.yaml", "--workers", "x"], "argument --workers: invalid"),
        (["run", "c.yaml", "--retry", "completed"], "'completed' is none of"),
        (["run", "c.yaml", "--retry", "failed,wrong"], "'wrong' is none of"),
        (["run", "c.yaml", "--retry", "failed", "--new"], "not allowed with"),
        (["cancel", "dir", "--timeout", "0"], "argument --timeout: must be more than 0"),
        (["cancel", "dir", "--timeout", "nan"], "argument --timeout: must be more than 0"),
    ],
)
def test_misuse_is_explained_and_ends_with_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code_of(*arguments) == 2
    assert said in capsys.readouterr().err


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "config.yaml"
    path.write_text("name: t\nrequest: {model: m}\n")
    return str(path)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[RunConfig, Options]]:
    """Return what `runner run` was called with; it ends with 1, a report and two messages."""
    calls: list[tuple[RunConfig, Options]] = []

    def run(config: RunConfig, options: Options, signals: object) -> CommandResult:
        calls.append((config, options))
        return CommandResult(1, ("first\nof two lines", "second"), "the report")

    monkeypatch.setattr("runner.commands.run.run", run)
    monkeypatch.setattr("runner.commands.signals.Signals.ignore_to_the_end", lambda _: None)
    return calls


def test_a_run_gets_its_config_with_overrides_and_its_options(
    ran: list[tuple[RunConfig, Options]], config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", config, "--set", "source.count=7", "--workers", "3", "--limit", "5"]
    assert main([*arguments, "--retry", "failed,expired", "--quiet"]) == 1
    ((given, options),) = ran
    assert (given.source.model_dump()["count"], given.engine.workers) == (7, 3)
    assert options == Options(new=False, limit=5, retry=("failed", "expired"), quiet=True)
    out, err = capsys.readouterr()
    assert out == "the report\n"
    assert err == "runner: first\nrunner: of two lines\nrunner: second\n"


def test_without_options_a_run_has_the_defaults(ran: list[tuple[RunConfig, Options]], config: str) -> None:
    main(["run", config])
    main(["run", config, "--new"])
    assert [options for _, options in ran] == [Options(), Options(new=True)]


def test_nobody_who_reads_the_report_does_not_change_the_exit_code(
    ran: list[tuple[RunConfig, Options]], config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with broken_pipe() as stream:
        monkeypatch.setattr("sys.stdout", stream)
        assert main(["run", config]) == 1


def broken_pipe() -> Any:
    """Return a stream whose reader has gone away."""
    read, write = os.pipe()
    os.close(read)
    return os.fdopen(write, "w")


def test_the_output_of_another_command_that_nobody_reads_ends_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    with broken_pipe() as stream:
        monkeypatch.setattr("sys.stdout", stream)
        assert main(["schema"]) == 1


def test_an_output_that_cannot_be_written_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path("/dev/full").open("w") as stream:
        monkeypatch.setattr("sys.stdout", stream)
        assert main(["schema"]) == 1
    assert capsys.readouterr().err == "runner: cannot write: No space left on device\n"


def raising(error: BaseException) -> Callable[..., CommandResult]:
    def command(*_: object, **__: object) -> CommandResult:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            ConfigError(Problem("is wrong", "a.yaml:3", "fix it"), "and another"),
            2,
            "runner: a.yaml:3: is wrong (fix it)\nrunner: and another\n",
        ),
        (KeyRefused("no"), 3, "runner: no\n"),
        (KeyboardInterrupt(), 130, "runner: interrupted\n"),
    ],
)
def test_errors_are_messages_with_an_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    config: str,
    error: BaseException,
    code: int,
    said: str,
) -> None:
    monkeypatch.setattr("runner.commands.check.check", raising(error))
    assert main(["check", config]) == code
    assert capsys.readouterr() == ("", said)


def test_a_config_that_is_not_there_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "nowhere.yaml"]) == 2
    assert capsys.readouterr().err == "runner: nowhere.yaml: there is no such config file\n"


def test_other_commands_get_what_was_parsed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], config: str
) -> None:
    calls: list[tuple[Any, ...]] = []

    def called(*arguments: Any, **named: Any) -> CommandResult:
        calls.append((*arguments, named))
        return CommandResult(0, ("a message",), "output")

    for name in ("cancel.cancel", "check.check", "list_batches.list_batches", "report.report_runs"):
        monkeypatch.setattr(f"runner.commands.{name}", called)
    monkeypatch.setattr("runner.commands.signals.Signals.ignore_to_the_end", lambda _: None)
    assert main(["check", config, "--limit", "4"]) == 0
    assert main(["report", "a", "b", "--json"]) == 0
    assert main(["cancel", "runs/t", "--timeout", "1.5"]) == 0
    assert main(["batches", config, "--status", "--limit", "7"]) == 0

    check, report, cancel, batches = calls
    assert (check[0].name, check[1]) == ("t", 4)
    assert report == (["a", "b"], {"as_json": True})
    assert cancel[:2] == (Path("runs/t"), 1.5)
    assert (batches[1], batches[-1]) == (7, {"with_status": True})
    assert capsys.readouterr() == ("output\n" * 4, "runner: a message\n")
