"""Serves the files of a directory over HTTP with the standard library's handler, unchanged.

There is nothing to write for this one; the handler is named on the command line:

    prefork run http.server:SimpleHTTPRequestHandler --chdir /srv/www --bind tcp://127.0.0.1:8000

This module does the same with one line of its own: the handler is configured in a subclass, here to keep connections
open between requests (HTTP/1.1), which costs a client one connection instead of one for every file.

    prefork run examples.http_files:FilesHandler --bind tcp://127.0.0.1:8000
"""

import http.server


class FilesHandler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # A kept connection holds a thread while it is idle; this many seconds of silence end it.
    timeout = 15


if __name__ == "__main__":
    with http.server.ThreadingHTTPServer(("127.0.0.1", 8000), FilesHandler) as server:
        server.serve_forever()
