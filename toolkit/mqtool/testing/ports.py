"""Free TCP ports on loopback that stay free for a broker that is restarted."""

from __future__ import annotations

import itertools
import random
import socket
from contextlib import closing

# Below the range from which the kernel takes the ports of outgoing connections, so that nobody takes a port
# in the seconds between the death of a broker and its restart.
_LOWEST, _HIGHEST = 15000, 31999


class PortLease:
    """One TCP port of 127.0.0.1, kept from other leases on this machine until ``release()``.

    The broker itself must be able to bind the TCP port, so the lease is a bound UDP socket of the same number:
    the system gives it back even when this process is killed.

    :param preferred: taken if it is free.
    :raises OSError: no port is free.
    """

    def __init__(self, preferred: int | None = None) -> None:
        by_chance = (random.randint(_LOWEST, _HIGHEST) for _ in range(1000))
        for number in itertools.chain(() if preferred is None else (preferred,), by_chance):
            lock = _bind(number, socket.SOCK_DGRAM)
            if lock is None:
                continue
            probe = _bind(number, socket.SOCK_STREAM)
            if probe is not None:
                probe.close()
                self.number = number
                self._lock = lock
                return
            lock.close()
        raise OSError(f"no free TCP port between {_LOWEST} and {_HIGHEST} on 127.0.0.1; stop what holds them")

    def release(self) -> None:
        """Give the port back. May be called twice."""
        self._lock.close()


def _bind(port: int, kind: socket.SocketKind) -> socket.socket | None:
    candidate = socket.socket(socket.AF_INET, kind)
    if kind == socket.SOCK_STREAM:  # as servers do: connections that have ended do not keep a port
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        candidate.bind(("127.0.0.1", port))
    except OSError:
        candidate.close()
        return None
    return candidate


def answers(host: str, port: int, timeout: float = 1.0) -> bool:
    """Whether something that speaks AMQP 0-9-1 answers at this address within ``timeout`` seconds.

    A TCP connection alone proves nothing: Docker's port forwarding accepts before the broker listens.
    """
    try:
        with closing(socket.create_connection((host, port), timeout=timeout)) as connection:
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            return connection.recv(1) == b"\x01"
    except OSError:
        return False
