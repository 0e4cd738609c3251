"""A command without a network: its requests are recorded and stay unanswered.

It runs in a namespace that holds loopback only. The name server there knows no name and keeps each question; strace,
where it is installed, tells each address as well. Run as a program, this file sets the namespace up from within.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

UNSHARE = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
STRACE = ("strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=socket,connect,bind,sendto,sendmsg,sendmmsg", "-o")
NAMES, TRACE = "names.txt", "trace.txt"
#: Families that reach nothing but this machine's own processes and kernel.
LOCAL = {"AF_UNIX", "AF_NETLINK", "AF_UNSPEC"}
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 0x1  # SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP of <net/if.h>


@dataclass(frozen=True)
class Asked:
    """How a command ended, and what of the network it asked for."""

    code: int
    output: str
    names: list[str]
    #: Neither loopback nor local to the kernel; always empty without strace.
    addresses: list[str]


def missing() -> str:
    """Why no command can be isolated here; "" where it can."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which(UNSHARE[0]) is None:
        return "a network namespace needs Linux, root and unshare"
    tried = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True)
    return f"no network namespace here: {tried.stderr.strip()}" if tried.returncode else ""


def run_isolated(
    command: Sequence[str], environment: Mapping[str, str], cwd: Path, notes: Path, within_s: int
) -> Asked:
    """Runs it to its end and whatever it began too; `notes` is an empty folder for what is written down."""
    (notes / NAMES).touch()
    words = [*UNSHARE, sys.executable, __file__, str(notes), *command]
    done = subprocess.run(words, env=dict(environment), cwd=cwd, capture_output=True, text=True, timeout=within_s)
    trace = notes / TRACE
    addresses = foreign_addresses(trace.read_text(errors="replace")) if trace.exists() else []
    return Asked(done.returncode, done.stdout + done.stderr, (notes / NAMES).read_text().split(), addresses)


def foreign_addresses(trace: str) -> list[str]:
    """Each address of a trace that leads out of the machine, and each family that may."""
    used = set(re.findall(r"(?:socket\(|sa_family=)(AF_\w+)", trace)) - LOCAL - {"AF_INET", "AF_INET6"}
    hosts = re.findall(r'(?:inet_addr\(|inet_pton\(AF_INET6, )"([^"]+)"', trace)
    return sorted(used | {host for host in hosts if not ip_address(host).is_loopback})


# ---- within the namespace ----


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack_from("h", fcntl.ioctl(any_socket, _GET_FLAGS, asked), 16)
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh14x", b"lo", flags | _UP))


def _resolve_here(notes: Path) -> None:
    """Names are asked of 127.0.0.1 alone: no daemon of the system's is in between."""
    order = Path("/etc/nsswitch.conf")
    known = order.read_text() if order.exists() else ""
    settings = {order: re.sub(r"(?m)^hosts:.*$", "hosts: files dns", known)} if known else {}
    for number, (path, text) in enumerate({Path("/etc/resolv.conf"): "nameserver 127.0.0.1\n", **settings}.items()):
        ours = notes / f"etc-{number}"
        ours.write_text(text)
        subprocess.run(["mount", "--bind", ours, path], check=True)


def _answer_names(server: socket.socket, names: Path) -> None:
    """Notes the name of each question, and answers that there is none."""
    while True:
        question, sender = server.recvfrom(4096)
        labels, place = [], 12
        while length := question[place]:
            labels.append(question[place + 1 : place + 1 + length].decode(errors="replace"))
            place += length + 1
        with names.open("a") as file:
            file.write(".".join(labels) + "\n")
        server.sendto(question[:2] + b"\x81\x83" + question[4:], sender)


def main(notes: Path, command: Sequence[str]) -> int:
    _raise_loopback()
    _resolve_here(notes)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 53))
        threading.Thread(target=_answer_names, args=(server, notes / NAMES), daemon=True).start()
        traced = [*STRACE, str(notes / TRACE)] if shutil.which(STRACE[0]) else []
        return subprocess.run([*traced, *command]).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
