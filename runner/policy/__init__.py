"""Pure decisions: clock in, number out. Nothing here reads a clock, sleeps, or draws unseeded randomness."""
