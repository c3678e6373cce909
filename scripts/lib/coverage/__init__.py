"""Measures which lines and branches the tests execute; see `scripts/test`."""
