"""The endpoints: from a request to a reply, without I/O."""
