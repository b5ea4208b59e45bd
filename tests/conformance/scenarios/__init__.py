"""Every sentence about the standard module that code outside may rely on, as a scenario. Imported to register them."""

from tests.conformance.scenarios import (  # noqa: F401
    better,
    construction,
    forking,
    handlers,
    loop,
    request,
    single,
    surface,
    threads,
)
