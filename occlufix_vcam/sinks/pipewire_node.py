"""Camera node in the user's PipeWire session, and its readers as the session reports them.

The library runs its own thread; its callbacks take Python's lock only when something changes, never for a frame.
"""

from __future__ import annotations

import ctypes as c
import errno
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from engines.contract import Image
from occlufix_vcam.sinks import libpipewire as lib
from occlufix_vcam.sinks.libpipewire import PipeWireError

READY_WITHIN_S = 2.0
START_HINT = "log in to a desktop with PipeWire, or run `systemctl --user start pipewire wireplumber`"
RESTART_HINT = "run `systemctl --user restart pipewire wireplumber`, then start again"


class Registry:
    """Objects in the session, as they appear and disappear."""

    def __init__(self) -> None:
        self._things: dict[int, tuple[str, dict[str, str]]] = {}
        #: Set once a session manager exists: without one, no program sees a camera.
        self.managed = threading.Event()

    def add(self, number: int, kind: str, facts: dict[str, str]) -> None:
        self._things[number] = kind, facts
        if facts.get("metadata.name") == "default":  # every session manager stores its choices there
            self.managed.set()

    def remove(self, number: int) -> None:
        self._things.pop(number, None)

    def readers_of(self, node: int) -> list[str]:
        """Programs with a link from `node`: "program (pid)" if known, each once."""
        things = dict(self._things)
        return sorted({_program(things, link.get("link.input.node", "-1")) for link in _links(things, node)})

    def links_from(self, node: int) -> int:
        return len(_links(dict(self._things), node))


Things = Mapping[int, tuple[str, dict[str, str]]]


def _links(things: Things, node: int) -> list[dict[str, str]]:
    links = [facts for kind, facts in things.values() if kind.endswith(":Link")]
    return [facts for facts in links if facts.get("link.output.node") == str(node)]


def _program(things: Things, node: str) -> str:
    _, facts = things.get(int(node), ("", {}))
    _, client = things.get(int(facts.get("client.id", "-1")), ("", {}))
    name = client.get("application.name") or facts.get("node.description") or facts.get("node.name") or "a program"
    process = client.get("application.process.id")
    if client.get("pipewire.access") != "portal":  # there, the portal owns the connection
        process = process or client.get("pipewire.sec.pid")
    return f"{name} ({process})" if process else name


class Session:
    """Connection to the user's PipeWire session. Raises PipeWireError if none works."""

    def __init__(self) -> None:
        self.library = lib.load_library()
        self.registry = Registry()
        self._open_parts = ExitStack()
        self._kept: list[object] = []  # objects that C holds pointers to
        with ExitStack() as undo:
            undo.callback(self.close)
            self._connect()
            undo.pop_all()

    def _connect(self) -> None:
        library, later = self.library, self._open_parts
        self.loop = library.pw_thread_loop_new(b"occlufix-pipewire", None)
        later.callback(library.pw_thread_loop_destroy, self.loop)
        context = library.pw_context_new(library.pw_thread_loop_get_loop(self.loop), None, 0)
        later.callback(library.pw_context_destroy, context)
        c.set_errno(0)
        self.core = library.pw_context_connect(context, None, 0)
        if not self.core:
            # Without a session the library says "Host is down".
            why = "" if (number := c.get_errno()) == errno.EHOSTDOWN else f": {os.strerror(number)}"
            raise PipeWireError(f"no PipeWire session is running{why}", START_HINT)
        later.callback(library.pw_core_disconnect, self.core)
        self._list_things()
        library.pw_thread_loop_start(self.loop)
        # Stop the thread before teardown: from then on no callback runs.
        later.callback(library.pw_thread_loop_stop, self.loop)
        if not self.registry.managed.wait(READY_WITHIN_S):
            raise PipeWireError("PipeWire runs without a session manager: no program sees cameras", START_HINT)

    def _list_things(self) -> None:
        core = lib.Interface.from_address(self.core)
        get_registry = lib.GetRegistry(core.methods[lib.CORE_GET_REGISTRY] or 0)
        registry = get_registry(core.data, 3, 0)
        self._open_parts.callback(self.library.pw_proxy_destroy, registry)
        listing = lib.Interface.from_address(registry)
        add_listener = lib.AddListener(listing.methods[lib.REGISTRY_ADD_LISTENER] or 0)
        events = lib.RegistryEvents(0, lib.Global(self._appeared), lib.GlobalRemove(self._removed))
        add_listener(listing.data, self.hook(), self.keep(events), None)

    def hook(self) -> int:
        """Address of the structure in which the library stores a listener."""
        return self.keep(c.create_string_buffer(lib.HOOK_BYTES))

    def keep(self, what: c.Structure | c.Array[c.c_char]) -> int:
        """Address of `what`, which lives as long as the session."""
        self._kept.append(what)
        return c.addressof(what)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Pauses the library's thread during the block."""
        self.library.pw_thread_loop_lock(self.loop)
        try:
            yield
        finally:
            self.library.pw_thread_loop_unlock(self.loop)

    def close(self) -> None:
        """Closes the connection. A second call does nothing."""
        self._open_parts.close()

    # ---- called by the library, in its thread ----

    def _appeared(self, _: object, number: int, __: int, kind: bytes, ___: int, facts: c._Pointer[lib.Dict]) -> None:
        items = facts.contents.items[: facts.contents.n_items] if facts else []
        known = {(item.key or b"").decode(): (item.value or b"").decode(errors="replace") for item in items}
        self.registry.add(number, kind.decode(), known)

    def _removed(self, _: object, number: int) -> None:
        self.registry.remove(number)


class CameraNode:
    """Video/Source node with role Camera. `send` from one thread, the rest from any. Raises PipeWireError."""

    def __init__(self, name: str, size: tuple[int, int], rate: float) -> None:
        self._size, self._sent = size, 0
        self._state, self._reason = lib.STATE_UNCONNECTED, ""
        self._settled = threading.Event()
        self._buffers: dict[int, lib.SpaBuffer] = {}
        self._session = Session()
        self._stream: int | None = None
        self._node: int | None = None
        with ExitStack() as undo:
            undo.callback(self.close)
            with self._session.locked():
                self._make_stream(name, rate)
            if not self._settled.wait(READY_WITHIN_S) or self._reason:
                why = self._reason or f"no answer within {READY_WITHIN_S:.0f} s"
                raise PipeWireError(f"PipeWire did not create the camera: {why}", RESTART_HINT)
            self._node = self._session.library.pw_stream_get_node_id(self._stream)
            undo.pop_all()

    @property
    def watched(self) -> bool:
        """Whether a reader accepts frames now."""
        return self._state == lib.STATE_STREAMING

    @property
    def lost(self) -> str:
        """Why no frame can be sent any more; "" if all is well."""
        return self._reason

    def readers(self) -> list[str]:
        """Programs with a link from this camera: "program (pid)" if known."""
        return self._session.registry.readers_of(self._node) if self._node is not None else []

    def send(self, picture: Image) -> bool:
        """Sends a YUY2 frame (HxWx2) to the readers; False if there are none, or they still hold every buffer."""
        library = self._session.library
        with self._session.locked():
            held = self._free_buffer() if self.watched else None
            if not held:
                return False
            self._fill(held.contents.buffer.contents, picture)
            library.pw_stream_queue_buffer(self._stream, held)
            library.pw_stream_trigger_process(self._stream)
            return True

    def _free_buffer(self) -> c._Pointer[lib.Buffer] | None:
        """Next buffer that no reader holds. A killed reader returns none: its buffers are skipped."""
        for _ in range(lib.MOST_BUFFERS):
            held: c._Pointer[lib.Buffer] = self._session.library.pw_stream_dequeue_buffer(self._stream)
            if held:
                return held
        return None

    def _fill(self, buffer: lib.SpaBuffer, picture: Image) -> None:
        data = buffer.datas[0]
        if data.data and data.maxsize >= picture.nbytes:
            c.memmove(data.data, picture.ctypes.data, picture.nbytes)
            chunk = data.chunk.contents
            chunk.offset, chunk.size, chunk.stride, chunk.flags = 0, picture.nbytes, 2 * self._size[0], 0
        if address := _meta(buffer, lib.META_HEADER):
            header = lib.MetaHeader.from_address(address)
            header.flags, header.dts_offset, header.seq = 0, 0, self._sent
            header.pts = time.monotonic_ns()
        self._sent += 1

    def close(self) -> None:
        """Removes the node from every list. A second call does nothing."""
        if self._stream is not None:
            with self._session.locked():
                self._session.library.pw_stream_destroy(self._stream)
            self._stream = None
        self._session.close()

    def _make_stream(self, name: str, rate: float) -> None:
        library, session = self._session.library, self._session
        properties = {
            "media.class": "Video/Source",
            "media.type": "Video",
            "media.category": "Capture",
            "media.role": "Camera",
            "node.name": name.lower().replace(" ", "-"),
            "node.description": name,
        }
        text = "".join(f'{key} = "{value}" ' for key, value in properties.items())
        self._stream = library.pw_stream_new(
            session.core, name.encode(), library.pw_properties_new_string(text.encode())
        )
        changed, asked = lib.StateChanged(self._state_changed), lib.ParamChanged(self._param_changed)
        came, went = lib.BufferChanged(self._buffer_came), lib.BufferChanged(self._buffer_went)
        events = lib.StreamEvents(0, None, changed, None, None, asked, came, went)
        library.pw_stream_add_listener(self._stream, session.hook(), session.keep(events), None)
        result = library.pw_stream_connect(
            self._stream,
            lib.DIRECTION_OUTPUT,
            lib.ANY_ID,
            lib.FLAG_DRIVER | lib.FLAG_MAP_BUFFERS,
            lib.pointers_to(lib.video_format(self._size, rate)),
            1,
        )
        if result < 0:
            raise PipeWireError(f"PipeWire refuses our camera: {os.strerror(-result)}", RESTART_HINT)

    # ---- called by the library, in its thread ----

    def _state_changed(self, _: object, old: int, new: int, error: bytes | None) -> None:
        if new == lib.STATE_STREAMING and self._node is not None:
            self._take_back_buffers(self._node)
        self._state = new
        if new in (lib.STATE_ERROR, lib.STATE_UNCONNECTED):
            self._reason = error.decode(errors="replace") if error else "the session ended"
        if new in (lib.STATE_ERROR, lib.STATE_PAUSED, lib.STATE_STREAMING):
            self._settled.set()

    def _take_back_buffers(self, node: int) -> None:
        """Reclaims buffers of killed readers, if the reader that starts now is the only one."""
        if self._session.registry.links_from(node) > 1:
            return
        for buffer in self._buffers.values():
            if address := _meta(buffer, lib.META_BUSY):
                lib.MetaBusy.from_address(address).count = 0

    def _buffer_came(self, _: object, buffer: c._Pointer[lib.Buffer]) -> None:
        inner = buffer.contents.buffer.contents
        self._buffers[c.addressof(inner)] = inner

    def _buffer_went(self, _: object, buffer: c._Pointer[lib.Buffer]) -> None:
        self._buffers.pop(c.addressof(buffer.contents.buffer.contents), None)

    def _param_changed(self, _: object, which: int, value: int | None) -> None:
        if which == lib.PARAM_FORMAT and value:
            needs = lib.buffer_needs(self._size)
            self._session.library.pw_stream_update_params(self._stream, lib.pointers_to(*needs), len(needs))


def _meta(buffer: lib.SpaBuffer, kind: int) -> int | None:
    """Metadata of that kind in the buffer; None if it has none."""
    return next((meta.data for meta in buffer.metas[: buffer.n_metas] if meta.type == kind and meta.data), None)
