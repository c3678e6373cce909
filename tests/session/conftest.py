"""Files of these tests are never waited for, and have no room where a test says so."""

from tests.session.full_disk import disk
from tests.session.unsynced import unsynced

__all__ = ["disk", "unsynced"]
