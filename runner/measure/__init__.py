"""What a run counts, times and shows."""
