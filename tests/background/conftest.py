"""Files of these tests are never waited for."""

from tests.session.unsynced import unsynced

__all__ = ["unsynced"]
