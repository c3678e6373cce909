"""Measures what a job costs the client; see `scripts/bench --help`."""
