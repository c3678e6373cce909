"""Where the samples of a run go: each file is one output."""
