"""What rsync takes for ssh: passes its words and then its bytes on to the socket of `delta.py`, which started it.

    python -I -S bridge.py SOCKET HOST rsync --server …

A program of its own, of the standard library alone, since its start is a part of what each large file costs.
"""

import socket
import sys
from os import read, write
from threading import Thread


def _inward(line: socket.socket) -> None:
    while data := read(0, 1 << 16):
        line.sendall(data)
    line.shutdown(socket.SHUT_WR)


def main(argv: list[str]) -> None:
    """Pump until the other side has closed."""
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(argv[1])
        line.sendall("\0".join(argv[3:]).encode("utf-8", "surrogateescape") + b"\n")
        Thread(target=_inward, args=(line,), daemon=True).start()
        while data := line.recv(1 << 16):
            while data:
                data = data[write(1, data) :]


if __name__ == "__main__":
    main(sys.argv)
