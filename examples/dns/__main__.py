"""Without prefork: one process, with a thread for each of the two servers (`python -m examples.dns`)."""

import socketserver
import threading

from examples.dns import DnsHandler

ADDRESS = ("127.0.0.1", 5353)

with socketserver.ThreadingTCPServer(ADDRESS, DnsHandler) as tcp, socketserver.UDPServer(ADDRESS, DnsHandler) as udp:
    threading.Thread(target=tcp.serve_forever, daemon=True).start()
    udp.serve_forever()
