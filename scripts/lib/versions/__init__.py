"""Tries the project with other versions of Python and of its dependencies; see `scripts/check-versions`."""
