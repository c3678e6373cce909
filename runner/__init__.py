"""Send thousands of background requests to a Responses API, follow them, and keep every result."""

__version__ = "0.1.0"
