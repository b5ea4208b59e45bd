"""Listeners: bound once by the master, shared by every worker of every generation, sealed before they close.

A listener is non-blocking at descriptor level: the worker that loses the race for a connection gets EAGAIN instead of
hanging in accept. *Sealing* makes the kernel stop adding to a listener's queue while what is queued can still be
accepted, so that a stop or a dropped bind loses nobody: TCP drops new SYNs (clients retry, and find the port closed or
its next owner), Unix stream refuses connects, datagrams are dropped before they are queued.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import grp
import os
import pwd
import select
import socket
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from prefork.address import BindAddress
from prefork.errors import ListenerError
from prefork.system.inherited import Inherited
from prefork.system.queues import queue_of

_SO_ATTACH_FILTER = 26  # <asm-generic/socket.h>
# Classic BPF (socket(7), SO_ATTACH_FILTER). A TCP listener's filter sees the segment from its TCP header on: drop a
# SYN that is no SYN-ACK (byte 13, flags 0x12), pass the rest, so that a handshake under way completes.
_DROP_NEW_CONNECTIONS = (
    (0x30, 0, 0, 13),
    (0x54, 0, 0, 0x12),
    (0x15, 0, 1, 0x02),
    (0x06, 0, 0, 0),
    (0x06, 0, 0, 0xFFFFFFFF),
)
_DROP_EVERYTHING = ((0x06, 0, 0, 0),)
_IP_MINTTL = 21  # <linux/in.h>
_IPV6_MINHOPCOUNT = 73  # <linux/in6.h>
_DEFAULT_MODE = 0o600
_LOCK_ATTEMPTS = 20
_LOCK_PATIENCE = 0.05  # seconds between them


@dataclass(slots=True)
class Listener:
    """A bound socket. `address` is what the configuration says, `actual` where it really listens."""

    address: BindAddress
    socket: socket.socket
    inherited: bool = False  # somebody else holds it too: it is neither sealed nor unlinked by us
    index: int = 0  # its place among the listeners of a generation
    inode: tuple[int, int] | None = None  # of the socket file that we made
    kept: bool = False  # by the service manager, for the next start of the service
    sealed: bool = field(default=False, init=False)
    handed_over: bool = field(default=False, init=False)  # a new master serves it from now on

    @property
    def actual(self) -> str:
        """The address as clients may use it, with the port that the kernel chose."""
        return describe_socket(self.socket) + self.address.suffix

    @property
    def closed(self) -> bool:
        """Whether this process has closed its descriptor."""
        return self.socket.fileno() < 0

    def queued(self) -> int:
        """Return how many connections wait to be accepted; 0 of datagrams, and where the kernel does not tell."""
        return queue_of(self.socket).waiting or 0 if self.socket.type == socket.SOCK_STREAM else 0

    def share_port(self) -> None:
        """Let the other sockets of its place be bound beside it (socket(7), SO_REUSEPORT)."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)

    def seal(self) -> None:
        """Let nothing new into the queue; what is in it can still be accepted."""
        if self.sealed or self.inherited:
            return
        self.sealed = True
        if self.socket.type == socket.SOCK_DGRAM:
            _attach_filter(self.socket, _DROP_EVERYTHING)
        elif self.socket.family == socket.AF_UNIX:
            self.socket.shutdown(socket.SHUT_RD)
        else:
            _drop_new_connections(self.socket)

    def hand_over(self) -> None:
        """Leave it to a new master: it is that one's to seal and to unlink."""
        self.inherited = self.handed_over = True
        self.inode = None

    def take_over(self, inode: tuple[int, int] | None) -> None:
        """Have it from the master before us, who leaves: from now on it is ours to seal and to unlink."""
        self.inherited = self.address.kind in ("fd", "systemd")
        self.inode = inode

    def withhold(self) -> None:
        """Keep programs that this process starts from what was passed to us, of which `socket` is a copy."""
        if self.address.kind == "fd":
            with contextlib.suppress(OSError):  # somebody has closed it
                os.set_inheritable(self.address.fd, False)

    def close(self) -> None:
        """Close this process's descriptor of the listener."""
        self.socket.close()

    def unlink(self) -> None:
        """Remove the socket file, if it is still the one that we made."""
        if self.inode is None:
            return
        try:
            if _inode_of(self.address.path) == self.inode:
                os.unlink(self.address.path)
        except FileNotFoundError:
            pass  # somebody else removed it


def open_listeners(
    address: BindAddress, backlog: int, inherited: Sequence[Inherited], beside: Listener | None = None
) -> list[Listener]:
    """Bind what one `--bind` says; several listeners only for `systemd:`. Raise ListenerError.

    `beside` is the first listener of the place, if this is to be another one.
    """
    try:
        if address.kind == "systemd":
            return _adopt_named(address, inherited)
        if address.kind == "fd":
            return [Listener(address, _adopt(address.fd), inherited=True)]
        if address.path and not address.path.startswith("@"):
            return [_bind_path(address, backlog)]
        if beside is not None:
            beside.share_port()  # only now: a place that another server has is not to be shared by mistake
        return [Listener(address, _bind(address, backlog, beside))]
    except (OSError, ValueError, KeyError) as error:
        raise ListenerError(f"cannot bind {address}: {_explain(error)}") from error


def share_listener(address: BindAddress, descriptor: int, backlog: int) -> Listener:
    """Listen beside the master before us, who owns it until `take_over`. Raise ListenerError."""
    try:
        shared = _adopt(descriptor)
        if shared.type == socket.SOCK_STREAM and address.kind in ("tcp", "unix"):
            shared.listen(address.backlog or backlog)  # what our settings say
    except (OSError, ValueError) as error:
        raise ListenerError(f"cannot take over {address}: {_explain(error)}") from error
    return Listener(address, shared, inherited=True)


def adopt_kept(address: BindAddress, kept: socket.socket, backlog: int) -> Listener:
    """Take a listener back that the service manager kept since an earlier start. Raise ListenerError."""
    try:
        if kept.type == socket.SOCK_STREAM:
            kept.listen(address.backlog or backlog)  # which may have changed since
        kept.setblocking(False)
        inode = _inode_of(address.path) if address.path and not address.path.startswith("@") else None
        return Listener(address, kept, inode=inode, kept=True)
    except OSError as error:
        kept.close()
        raise ListenerError(f"cannot take {address} back from the service manager: {_explain(error)}") from error


def _bind(address: BindAddress, backlog: int, beside: Listener | None = None) -> socket.socket:
    family, where = _resolve(address) if beside is None else (beside.socket.family, beside.socket.getsockname())
    kind = socket.SOCK_DGRAM if address.kind in ("udp", "unixgram") else socket.SOCK_STREAM
    bound = socket.socket(family, kind)
    try:
        if address.kind == "tcp":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1 if address.ipv6only else 0)
        if address.kind == "tcp":
            _set_tcp_options(bound, address)
        if beside is not None:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(where)
        if kind == socket.SOCK_STREAM:
            bound.listen(address.backlog or backlog)
        bound.setblocking(False)
    except BaseException:
        bound.close()
        raise
    return bound


def _set_tcp_options(bound: socket.socket, address: BindAddress) -> None:
    """Set what accepted connections inherit from their listener (tcp(7))."""
    if address.keepalive is not None:
        # Silent for half of the time, then asked three times in the other half.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, address.keepalive // 2))
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, address.keepalive // 6))
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    if address.user_timeout is not None:
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * address.user_timeout)
    if address.nodelay is not None:
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, address.nodelay)


def _resolve(address: BindAddress) -> tuple[socket.AddressFamily, tuple[object, ...] | str]:
    """Return the family and what bind() takes; a host name with both kinds of address is bound as IPv4."""
    if address.kind in ("unix", "unixgram"):
        return socket.AF_UNIX, "\0" + address.path[1:] if address.path.startswith("@") else address.path
    if address.host in ("", "*"):
        return socket.AF_INET, ("", address.port)
    kind = socket.SOCK_DGRAM if address.kind == "udp" else socket.SOCK_STREAM
    found = socket.getaddrinfo(address.host, address.port, type=kind, flags=socket.AI_PASSIVE)
    family, _, _, _, where = min(found, key=lambda one: one[0] != socket.AF_INET)
    return family, where


def _bind_path(address: BindAddress, backlog: int) -> Listener:
    """Bind a Unix socket to a path with its mode from birth; replace a stale file, never a living server's."""
    # The directory is locked so that two servers starting together cannot both find the file stale.
    directory = os.open(os.path.dirname(address.path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    previous = os.umask(0o777 & ~(_DEFAULT_MODE if address.mode is None else address.mode))
    try:
        _lock(directory)
        _remove_stale(address)
        user, group = _owner_of(address)
        with _created_for(group):
            bound = _bind(address, backlog)
        listener = Listener(address, bound, inode=_inode_of(address.path))
        try:
            if (user, group) != (-1, -1):
                os.chown(address.path, user, group, follow_symlinks=False)
        except BaseException:
            listener.unlink()
            listener.close()
            raise
        return listener
    finally:
        os.umask(previous)
        os.close(directory)


def _lock(directory: int) -> None:
    """Lock a directory. Others lock it for a moment only, as we do; whoever does not shall not hold us up."""
    for _ in range(_LOCK_ATTEMPTS):
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            select.select([], [], [], _LOCK_PATIENCE)
        else:
            return
    raise ValueError("its directory is locked by another process (see lslocks); use a directory of your own")


def _remove_stale(address: BindAddress) -> None:
    try:
        mode = os.lstat(address.path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ValueError("the file exists and is no socket (choose another path, or remove it)")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM if address.kind == "unix" else socket.SOCK_DGRAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(address.path)
        except ConnectionRefusedError:
            os.unlink(address.path)
            return
        except OSError:
            pass  # a full queue (EAGAIN) or another socket type (EPROTOTYPE): somebody lives there
    raise ValueError("another server listens there (stop it first, or choose another path)")


def _owner_of(address: BindAddress) -> tuple[int, int]:
    """Return the user and the group that the file is for; -1 is whoever makes it."""
    user = -1 if address.owner is None else _number_of(address.owner, lambda name: pwd.getpwnam(name).pw_uid)
    group = -1 if address.group is None else _number_of(address.group, lambda name: grp.getgrnam(name).gr_gid)
    return user, group


@contextlib.contextmanager
def _created_for(group: int) -> Iterator[None]:
    """Let files made meanwhile belong to the group from birth: to our own group the mode may open the socket, too.

    Only root may do that for any group. Of a file that has only the wrong user for a moment nobody has too much.
    """
    own = os.getegid()
    try:
        os.setegid(own if group < 0 else group)
    except PermissionError:
        pass
    try:
        yield
    finally:
        os.setegid(own)


def _number_of(name: str, look_up: Callable[[str], int]) -> int:
    return int(name) if name.isdigit() else look_up(name)


def _adopt_named(address: BindAddress, inherited: Sequence[Inherited]) -> list[Listener]:
    chosen = [one for one in inherited if address.name in ("", one.name)]
    if not chosen:
        names = ", ".join(sorted({one.name for one in inherited})) or "none"
        raise ValueError(f"no such socket was passed by the service manager (passed: {names})")
    return [Listener(address, _adopt(one.descriptor), inherited=True) for one in chosen]


def _adopt(descriptor: int) -> socket.socket:
    """Take a descriptor that another program opened, bound and (for streams) set listening."""
    adopted = socket.socket(fileno=os.dup(descriptor))
    try:
        _check_adopted(adopted, descriptor)
    except BaseException:
        adopted.close()
        raise
    adopted.setblocking(False)
    return adopted


def _check_adopted(adopted: socket.socket, descriptor: int) -> None:
    served = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
    if adopted.family not in served or adopted.type not in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        raise ValueError(f"descriptor {descriptor} is no stream or datagram socket of TCP, UDP or Unix")
    if adopted.type == socket.SOCK_STREAM and not adopted.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ValueError(f"descriptor {descriptor} is a stream socket that does not listen")


def _drop_new_connections(listener: socket.socket) -> None:
    try:
        _attach_filter(listener, _DROP_NEW_CONNECTIONS)
    except PermissionError:
        # Some kernels want CAP_NET_ADMIN for it on TCP. Anybody may demand packets with no hop behind them (ip(7),
        # IP_MINTTL): a SYN, which usually sets out with 64 or 128, is dropped, and a handshake under way completes.
        # Its connection inherits the demand; `serving.accepting` withdraws it.
        listener.setsockopt(socket.IPPROTO_IP, _IP_MINTTL, 255)
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, _IPV6_MINHOPCOUNT, 255)


def _attach_filter(target: socket.socket, program: Sequence[tuple[int, int, int, int]]) -> None:
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    memory = ctypes.create_string_buffer(code, len(code))
    target.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(memory)))


def _inode_of(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def describe_socket(bound: socket.socket) -> str:
    """Write where a socket is bound as a bind address: `tcp://127.0.0.1:9999`, `unix:/run/x.sock`."""
    name = bound.getsockname()
    datagram = bound.type == socket.SOCK_DGRAM
    if bound.family == socket.AF_UNIX:
        path = "@" + name[1:].decode(errors="replace") if isinstance(name, bytes) else name
        return f"{'unixgram' if datagram else 'unix'}:{path}"
    host = f"[{name[0]}]" if bound.family == socket.AF_INET6 else name[0]
    return f"{'udp' if datagram else 'tcp'}://{host}:{name[1]}"


def system_backlog_limit() -> int | None:
    """Return the kernel's cap on a listen backlog (net.core.somaxconn), or None where /proc is hidden."""
    try:
        with open("/proc/sys/net/core/somaxconn", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def _explain(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error.args[0]} (no such user or group)"
    if isinstance(error, socket.gaierror):
        return f"{(error.strerror or 'unknown host').lower()} (check the host name)"
    if isinstance(error, PermissionError):
        return "permission denied (use a port from 1024 on, a directory you may write, or a systemd socket)"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror.lower()}{_way_out(error)}"
    return str(error)


def _way_out(error: OSError) -> str:
    ways = {
        98: " (stop the server that has it, or choose another address)",  # EADDRINUSE
        99: " (no interface of this machine has the address)",  # EADDRNOTAVAIL
    }
    return ways.get(error.errno or 0, "")
