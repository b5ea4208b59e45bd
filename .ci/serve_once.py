"""Serve one client with the installed package: run where echo.py lies, in an environment that has only the wheel."""

import socket

import prefork.testing

with prefork.testing.serve("echo:EchoHandler", workers=2, bind=["tcp://127.0.0.1:0"]) as server:
    with socket.create_connection(server.address, timeout=30) as client:
        client.sendall(b"hello\n")
        assert client.recv(100) == b"hello\n"
print("the installed package served a client")
