"""The second way through: many requests in one POST, looked at together, their results fetched one by one."""
