"""What the tests with real processes have, the soak has too."""

from tests.process.conftest import _adopt_orphans, _nothing_is_left

__all__ = ["_adopt_orphans", "_nothing_is_left"]
