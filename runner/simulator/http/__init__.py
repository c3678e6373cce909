"""The wire: bytes to requests, replies to bytes, connections and the server."""
