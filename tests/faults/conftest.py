"""What the tests with real processes have, they have too."""

from tests.process.conftest import _adopt_orphans, _nothing_is_left, project, serve

__all__ = ["_adopt_orphans", "_nothing_is_left", "project", "serve"]
