"""What a person sees of a run: bars on a terminal, plain lines in a pipe, nothing with `--quiet`."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess

from tests.processes import Shell, Simulate, constant


def test_a_terminal_shows_two_bars_and_a_pipe_gets_plain_lines(simulate: Simulate, shell: Shell) -> None:
    simulator = simulate(latency=constant(0.4))
    done = shell("run", shell.config(target={"base_url": simulator.base_url}))
    assert re.search(r"submitted 50/50 .* completed 50 .*in flight 0  retries 0  failed 0", done.stderr)
    assert "\r" not in done.stderr
    screen, terminal = pty.openpty()
    process = subprocess.Popen(
        shell.command("run", shell.config(name="tty", target={"base_url": simulator.base_url})),
        cwd=shell.cwd, env=shell.env, stdin=terminal, stdout=subprocess.DEVNULL, stderr=terminal,
    )  # fmt: skip
    os.close(terminal)
    text = everything_on(screen)
    assert process.wait(30) == 0
    assert "submitted" in text
    assert "completed" in text
    assert "in flight 0 · retries 0 · failed 0" in text
    assert "50/50" in text
    assert "\x1b[A" in text, "the second bar moves the cursor"


def everything_on(screen: int) -> str:
    """Return what is written to a pseudo-terminal until its other side is closed."""
    seen = b""
    while select.select([screen], [], [], 30)[0]:
        try:
            seen += os.read(screen, 1 << 16)
        except OSError:  # the other side is closed
            break
    os.close(screen)
    return seen.decode()


def test_quiet_says_nothing_when_all_is_well(simulate: Simulate, shell: Shell) -> None:
    done = shell("run", shell.config(target={"base_url": simulate().base_url}), "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
