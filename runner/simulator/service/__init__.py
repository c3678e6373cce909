"""The service behind the endpoints: jobs and batches in the time of a given clock."""
