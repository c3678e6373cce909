"""Rows → jobs → results: submitter, poller, sink, and the run that owns them."""
