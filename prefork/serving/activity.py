"""How serving tells whom it serves: a worker fills this in with its rows of the scoreboard."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Activity(Protocol):
        """Told of every connection by the thread that carries it; a row belongs to one thread at a time."""

        def opened(self, row: int, listener: int, client_address: object) -> None:
            """A connection was accepted; the row is busy with it."""

        def closed(self, row: int, failed: bool, listener: int | None = None, since: float | None = None) -> None:
            """It has ended; `failed` if its handler raised.

            A row that is busy with several at a time says which: its listener, and since when it was open.
            """

        def identified(self, row: int, client_address: object) -> None:
            """Its client is another one than whoever connected: a proxy has said so."""

        def refused(self, row: int, listener: int | None = None) -> None:
            """It is not served, because it did not get through what comes before its handler.

            A row that is busy with several at a time says where it came from.
            """

        def parked(self, row: int) -> object:
            """It waits for its client's next message, and the row is free. Return what `resumed` is to be given."""

        def resumed(self, row: int, listener: int, client_address: object, kept: object) -> None:
            """A parked connection has something to say; the row is busy with it."""

        def handed_over(self, row: int) -> None:
            """Another process has taken up what was parked, and the row is free."""

        def taken_over(self, row: int, listener: int, client_address: object, opened_at: float) -> None:
            """The row is busy with a parked connection of another process, open since then."""

        def message_began(self, row: int) -> None:
            """The row's connection is served another message."""

        def message_ended(self, row: int, served: bool = True) -> None:
            """It has been served; or it was none, but the end of the connection."""

        def load_changed(self, busy: int | None) -> None:
            """So much is being served now; None: nothing is accepted any more. Told one at a time, by any thread."""

        def less_busy(self) -> float:
            """Return what somebody shows who is less busy and should take what waits; 0 if nobody is.

            It changes whenever that one takes something.
            """

        def tagged(self, row: int, text: str) -> None:
            """The application says what it is doing for this connection."""

        def extended(self, row: int, seconds: float) -> None:
            """The application needs at least so long from now on."""


class NoActivity:
    """For a server that runs alone: nobody asks."""

    def opened(self, row: int, listener: int, client_address: object) -> None:
        pass

    def closed(self, row: int, failed: bool, listener: int | None = None, since: float | None = None) -> None:
        pass

    def identified(self, row: int, client_address: object) -> None:
        pass

    def refused(self, row: int, listener: int | None = None) -> None:
        pass

    def parked(self, row: int) -> None:
        pass

    def resumed(self, row: int, listener: int, client_address: object, kept: object) -> None:
        pass

    def handed_over(self, row: int) -> None:
        pass

    def taken_over(self, row: int, listener: int, client_address: object, opened_at: float) -> None:
        pass

    def message_began(self, row: int) -> None:
        pass

    def message_ended(self, row: int, served: bool = True) -> None:
        pass

    def load_changed(self, busy: int | None) -> None:
        pass

    def less_busy(self) -> float:
        return 0.0

    def tagged(self, row: int, text: str) -> None:
        pass

    def extended(self, row: int, seconds: float) -> None:
        pass
