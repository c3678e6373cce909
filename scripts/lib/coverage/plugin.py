"""Plugin for pytest that starts recording before any test imports the runner."""

from scripts.lib.coverage.recorder import start_recording

start_recording()
