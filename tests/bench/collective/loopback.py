"""Sends around a ring through the loopback device: `loopback.py PROCESSES` prints bytes a second.

Every process sends to the next one and receives from the one before, at the same time, out of and
into memory that its caches hold: what TCP on this host allows, whatever is made of the bytes.
"""

import multiprocessing
import socket
import sys
import threading
import time

CHUNK = 256 << 10
SECONDS = 1.0


def listen() -> socket.socket:
    """A socket at a free port."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(30)
    return listener


def receive(link: socket.socket) -> None:
    """Takes what comes until nothing does any more."""
    into = bytearray(CHUNK)
    while link.recv_into(into):
        pass


def send_around(listener, port, barrier, counts) -> None:
    """Counts the bytes that one process has sent in a second."""
    following = socket.create_connection(("127.0.0.1", port), timeout=30)
    previous, _ = listener.accept()
    receiver = threading.Thread(target=receive, args=(previous,))
    receiver.start()
    out = bytes(CHUNK)
    barrier.wait(30)
    started, sent = time.perf_counter(), 0
    while time.perf_counter() - started < SECONDS:
        following.sendall(out)
        sent += CHUNK
    counts.put(sent / (time.perf_counter() - started))
    following.close()
    receiver.join()


def main() -> None:
    """One ring of as many processes as the argument says."""
    count = int(sys.argv[1])
    listeners = [listen() for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    barrier, counts = multiprocessing.Barrier(count), multiprocessing.Queue()
    ring = [
        multiprocessing.Process(
            target=send_around, args=(listeners[at], ports[(at + 1) % count], barrier, counts)
        )
        for at in range(count)
    ]
    for process in ring:
        process.start()
    print(sum(counts.get(timeout=60) for _ in ring))
    for process in ring:
        process.join()


if __name__ == "__main__":
    main()
