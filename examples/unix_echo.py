"""Numbers the lines that a client sends, over a Unix socket, and says which process answered.

prefork run examples.unix_echo:NumberedEchoHandler --bind 'unix:/tmp/echo.sock?mode=0660'
"""

import os
import socket
import socketserver
import struct


class NumberedEchoHandler(socketserver.StreamRequestHandler):
    """`rfile` and `wfile` are the connection as files; iterating over `rfile` yields lines."""

    def handle(self) -> None:
        # What a Unix socket knows and a TCP socket does not: which process and which user is at the other end.
        credentials = self.connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, uid, _gid = struct.unpack("3i", credentials)
        self.wfile.write(b"process %d greets process %d of user %d\n" % (os.getpid(), pid, uid))
        for number, line in enumerate(self.rfile, start=1):
            self.wfile.write(b"%d: %s" % (number, line))


if __name__ == "__main__":
    with socketserver.ThreadingUnixStreamServer("/tmp/echo.sock", NumberedEchoHandler) as server:
        server.serve_forever()
