"""Python programs behind the commands in `scripts/`."""
