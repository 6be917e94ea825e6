"""sky port-forward: ports of a node on this machine, for as long as it runs. Loaded by the root group when it runs."""

import asyncio
import errno
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import NamedTuple, NoReturn

import click

from sky.cli import exit_codes, options
from sky.cli.nodes import Node, find, program_of, worker
from sky.cli.terminal import say, talk
from sky.core.errors import AgentUnreachable, ApiServerConnectionError, ClientError

_HERE = "127.0.0.1"
#: Seconds between tries once a connection that stood is gone.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
_PIECE = 1 << 16
_READY = "sky-forwards"


class Port(NamedTuple):
    """A port of this machine, and that of the node which it leads to."""

    here: int
    there: int


@options.command("port-forward", help="Bring ports of a node of CLUSTER to this machine (127.0.0.1) until Ctrl-C.")
@options.cluster_name
@click.argument("ports", nargs=-1, required=True, metavar="PORT[:REMOTE]...")
@worker
def port_forward(cluster: str, ports: tuple[str, ...], *, worker: int) -> int:
    """Forward ports."""
    wanted = [parse(each) for each in ports]
    twice = {port.here for port in wanted if [each.here for each in wanted].count(port.here) > 1}
    if twice:
        raise click.UsageError(f"Port {min(twice)} of this machine is wanted twice.")
    node = find(cluster, worker)
    for port in wanted:
        check_free(port.here)
    try:
        with _ending_in_order():
            if node.file is None:
                asyncio.run(_relay_all(node, wanted))
            else:
                _by_ssh(node, wanted)
    except KeyboardInterrupt:
        talk("\nNo ports are forwarded any more.")
    return exit_codes.OK


def parse(text: str) -> Port:
    """`8080` or `9000:8080`: of this machine, then of the node. Raises click.UsageError."""
    here, colon, there = text.partition(":")
    numbers = [here, there if colon else here]
    if not all(each.isascii() and each.isdigit() and 0 < int(each) < 65536 for each in numbers):
        raise click.UsageError(f"Found the port {text!r}; allowed: PORT, or PORT:REMOTE, each from 1 to 65535.")
    return Port(int(numbers[0]), int(numbers[1]))


def check_free(port: int) -> None:
    """Raise ClientError unless somebody may listen on a port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HERE, port))
        except OSError as error:
            why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            raise ClientError(
                f"Port {port} of this machine {why}. Take another one: sky port-forward NAME OTHER:{port}"
            ) from None


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """Let a request to end be one: what was started must not stay behind."""

    def leave(number: int, frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    heard = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) is not signal.SIG_IGN]
    before = {number: signal.signal(number, leave) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell(node: Node, ports: Sequence[Port]) -> None:
    for port in ports:
        say(f"{_HERE}:{port.here} -> {node.cluster}{_of(node)}:{port.there}")
    talk("Ctrl-C ends it.", "dim")


def _of(node: Node) -> str:
    return f" (worker {node.record['rank']})" if node.record["rank"] else ""


# --- by SSH ----------------------------------------------------------------------------------------------------------


def _by_ssh(node: Node, ports: Sequence[Port]) -> None:
    """Keep a connection that forwards; ends only by an exception."""
    pause, told = _FIRST_PAUSE_S, False
    while True:
        for line in _connection(node, ports):
            if line == _READY:
                pause = _FIRST_PAUSE_S
                if told:
                    talk("Connected again.")
                else:
                    _tell(node, ports)
                told = True
        if not told:
            raise AgentUnreachable(f"The ports could not be forwarded: `ssh` to {node.host} said why above.")
        talk(f"The connection to {node.host} is gone; trying again in {pause:g} s.", "yellow")
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE_S)
        with suppress(ApiServerConnectionError):
            # It may have another address now, or be no more, which ends this.
            node = find(node.cluster, node.record["rank"])


def _connection(node: Node, ports: Sequence[Port]) -> Iterator[str]:
    """One `ssh`, and what it says: `_READY` once all ports are forwarded."""
    process = subprocess.Popen(
        ssh_words(node, ports), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace"
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            yield line.strip()
        process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
        process.stdout.close()


def ssh_words(node: Node, ports: Sequence[Port]) -> list[str]:
    """The command line of an `ssh` that does nothing but forward."""
    target = node.record["host"] or "localhost"
    wanted = [word for port in ports for word in ("-L", f"{_HERE}:{port.here}:{target}:{port.there}")]
    settings = {"ExitOnForwardFailure": "yes", "PermitLocalCommand": "yes", "LocalCommand": f"echo {_READY}"}
    given = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    return [program_of("ssh"), "-F", str(node.file), "-N", "-T", *given, *wanted, node.host]


# --- to nodes of this machine ----------------------------------------------------------------------------------------


async def _relay_all(node: Node, ports: Sequence[Port]) -> None:
    """Listen and pass on until called off."""
    host = node.record["host"]
    servers = [await asyncio.start_server(partial(_relay, host, port.there), _HERE, port.here) for port in ports]
    _tell(node, ports)
    try:
        await asyncio.gather(*(server.serve_forever() for server in servers))
    finally:
        for server in servers:
            server.close()


async def _relay(host: str, port: int, near_reader: asyncio.StreamReader, near_writer: asyncio.StreamWriter) -> None:
    """Join a connection to the node's port: at the node's own address, else where all nodes of the machine listen."""
    writers = [near_writer]
    try:
        for address in (host, _HERE):
            with suppress(OSError):
                far_reader, far_writer = await asyncio.open_connection(address, port)
                writers.append(far_writer)
                break
        else:
            return
        await asyncio.gather(_pass_on(near_reader, far_writer), _pass_on(far_reader, near_writer))
    finally:
        for writer in writers:
            writer.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Bytes of one direction, to its end."""
    with suppress(OSError):
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
