"""Files in blocks that a narrow way lets through, checked by sha256. Standard library only: it travels ahead.

python3 blocks.py KIT WORK      keeps the blocks that are in KIT, and unpacks what is complete into WORK
"""

from __future__ import annotations

import hashlib
import json
import sys
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

MANIFEST = "kit.json"
MIB = 2**20


class KitError(Exception):
    """Something that travelled is not what was sent; the message says what to do."""


def split(content: bytes, name: str, folder: Path, most_bytes: int) -> list[dict[str, Any]]:
    """Writes `content` as NAME.00, NAME.01, ..., and gives name, bytes and sha256 of each.

    A block that is there already stays as it is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    blocks = []
    for number, start in enumerate(range(0, len(content), most_bytes)):
        part = content[start : start + most_bytes]
        block = {"name": f"{name}.{number:02d}", "bytes": len(part), "sha256": hashlib.sha256(part).hexdigest()}
        if not is_whole(folder / block["name"], block):
            replace(folder / block["name"], part)
        blocks.append(block)
    return blocks


def join(blocks: Iterable[Mapping[str, Any]], folder: Path) -> bytes:
    """What `split` was given. Raises KitError for a block that is missing or damaged."""
    return b"".join(_checked(folder / block["name"], block) for block in blocks)


def is_whole(file: Path, block: Mapping[str, Any]) -> bool:
    """Whether the block is there as it was written."""
    if not file.is_file() or file.stat().st_size != block["bytes"]:
        return False
    return hashlib.sha256(file.read_bytes()).hexdigest() == block["sha256"]


def replace(file: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    temporary = file.with_name(f".{file.name}.part")
    temporary.write_bytes(content)
    temporary.replace(file)


def receive(kit: Path, work: Path) -> Iterator[str]:
    """Takes the blocks in `kit` over into WORK/blocks, and unpacks each archive once all of its blocks are there.

    Gives a line on each archive. Raises KitError for a block that is damaged.
    """
    archives: dict[str, list[dict[str, Any]]] = json.loads((kit / MANIFEST).read_text(encoding="utf-8"))
    kept = work / "blocks"
    kept.mkdir(parents=True, exist_ok=True)
    for archive, blocks in archives.items():
        for block in blocks:
            if (kit / block["name"]).is_file():
                replace(kept / block["name"], _checked(kit / block["name"], block))
        missing = [block["name"] for block in blocks if not is_whole(kept / block["name"], block)]
        yield f"{archive}: {'still to come: ' + ', '.join(missing) if missing else _unpack(archive, blocks, work)}"


def _unpack(archive: str, blocks: list[dict[str, Any]], work: Path) -> str:
    """Unpacks an archive, once: what it was made of is noted beside it."""
    note, wanted = work / "blocks" / f"{archive}.json", json.dumps(blocks)
    if note.is_file() and note.read_text(encoding="utf-8") == wanted:
        return "there already"
    joined = work / "blocks" / archive
    joined.write_bytes(join(blocks, work / "blocks"))
    with tarfile.open(joined) as tar:
        tar.extractall(work, filter="data")
    joined.unlink()
    note.write_text(wanted, encoding="utf-8")
    return "unpacked"


def _checked(file: Path, block: Mapping[str, Any]) -> bytes:
    content = file.read_bytes() if file.is_file() else b""
    if hashlib.sha256(content).hexdigest() != block["sha256"]:
        raise KitError(f"{file.name} is missing or damaged: send it again")
    return content


if __name__ == "__main__":
    try:
        for line in receive(Path(sys.argv[1]), Path(sys.argv[2])):
            print(line)
    except KitError as error:
        sys.exit(str(error))
