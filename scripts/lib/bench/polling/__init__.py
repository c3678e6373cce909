"""Polling strategies compared in virtual time; see `scripts/bench polling --help`."""
