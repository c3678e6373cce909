"""What a person sees: bars on a terminal, plain lines in a pipe, nothing with --quiet."""

import os
import pty
import re
import select
import subprocess
from collections.abc import Callable

from tests.processes import Shell, Simulator


def test_a_terminal_sees_two_bars_and_a_pipe_plain_lines(
    simulate: Callable[..., Simulator], shell: Shell
) -> None:
    simulator = simulate(latency={"type": "constant", "mean_s": 0.4})
    config = shell.config(target={"base_url": simulator.base_url})
    done = shell("run", config)
    assert re.search(r"submitted 50/50 .* completed 50 .*in flight 0  retries 0  failed 0", done.stderr)
    assert "\r" not in done.stderr
    master, slave = pty.openpty()
    process = subprocess.Popen(
        shell.command("run", shell.config(name="tty", target={"base_url": simulator.base_url})),
        cwd=shell.cwd, env=shell.env, stdin=slave, stdout=subprocess.DEVNULL, stderr=slave,
    )  # fmt: skip
    os.close(slave)
    seen = b""
    while select.select([master], [], [], 30)[0]:
        try:
            seen += os.read(master, 1 << 16)
        except OSError:  # the other side is closed
            break
    os.close(master)
    assert process.wait(30) == 0
    text = seen.decode()
    assert "submitted" in text
    assert "completed" in text
    assert "in flight 0 · retries 0 · failed 0" in text
    assert "50/50" in text
    assert "\x1b[A" in text, "the second bar moves the cursor"


def test_quiet_says_nothing_when_all_is_well(simulate: Callable[..., Simulator], shell: Shell) -> None:
    simulator = simulate()
    done = shell("run", shell.config(target={"base_url": simulator.base_url}), "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
