"""Kills runs at random moments and checks that no result is lost or doubled; see `scripts/chaos --help`."""
