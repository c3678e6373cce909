"""One HTTP exchange → one typed outcome. Several ways to do it, one contract."""

from runner.transport.transport import Transport, open_transport
from runner.transport.uploads import Upload

__all__ = ["Transport", "Upload", "open_transport"]
