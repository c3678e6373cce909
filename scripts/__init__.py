"""Commands for working on this project."""
