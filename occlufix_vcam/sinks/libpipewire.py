"""The part of libpipewire that the camera uses, through ctypes: functions, structures, and formats as PipeWire encodes
them.

It follows the C library's stable interface (libpipewire-0.3.so.0, the same from 0.3 to 1.x), so that a camera in
PipeWire needs no helper program and no extra package.
"""

from __future__ import annotations

import ctypes as c
import functools
import struct
from collections.abc import Mapping
from fractions import Fraction

LIBRARY = "libpipewire-0.3.so.0"

STATE_ERROR, STATE_UNCONNECTED, STATE_PAUSED, STATE_STREAMING = -1, 0, 2, 3
DIRECTION_OUTPUT, ANY_ID = 1, 0xFFFFFFFF
FLAG_MAP_BUFFERS, FLAG_DRIVER = 1 << 2, 1 << 3
MOST_BUFFERS = 8
#: Kinds of metadata: time and number of the frame; how many readers hold the buffer.
META_HEADER, META_BUSY = 1, 7


class PipeWireError(Exception):
    """PipeWire is not available, or no longer; `hint` says what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


# ---- formats in PipeWire's encoding: values with a size and a type, padded to 8 bytes ----

_ID, _INT, _RECTANGLE, _FRACTION, _OBJECT, _CHOICE = 3, 4, 10, 11, 15, 19
_FORMAT_OBJECT, _BUFFERS_OBJECT, _META_OBJECT = 0x40003, 0x40004, 0x40005
_ENUM_FORMAT, PARAM_FORMAT, _BUFFERS, _META = 3, 4, 5, 6
_MEDIA_TYPE, _MEDIA_SUBTYPE = 1, 2
_PIXELS, _SIZE, _RATE, _COLOUR_RANGE, _COLOUR_MATRIX = 0x20001, 0x20003, 0x20004, 0x2000C, 0x2000D
_BUFFERS_COUNT, _BUFFERS_BLOCKS, _BUFFERS_SIZE, _BUFFERS_STRIDE, _BUFFERS_MEMORY = 1, 2, 3, 4, 6
_META_TYPE, _META_SIZE = 1, 2
_RANGE, _FLAGS = 1, 4
_VIDEO, _RAW, _YUY2 = 2, 1, 4
_LIMITED_RANGE, _BT601 = 2, 4
_MEMORY_POINTER, _MEMORY_FILE = 1 << 1, 1 << 2


def _pod(kind: int, body: bytes) -> bytes:
    return struct.pack("=II", len(body), kind) + body + bytes(-len(body) % 8)


def _id(value: int) -> bytes:
    return _pod(_ID, struct.pack("=I", value))


def _int(value: int) -> bytes:
    return _pod(_INT, struct.pack("=i", value))


def _choice(kind: int, *values: int) -> bytes:
    return _pod(_CHOICE, struct.pack(f"=IIII{len(values)}i", kind, 0, 4, _INT, *values))


def _object(kind: int, purpose: int, values: Mapping[int, bytes]) -> bytes:
    properties = b"".join(struct.pack("=II", key, 0) + value for key, value in values.items())
    return _pod(_OBJECT, struct.pack("=II", kind, purpose) + properties)


def video_format(size: tuple[int, int], rate: float) -> bytes:
    """YUY2 of one size and rate, BT.601 in limited range: what webcams deliver, so every reader accepts it."""
    exact = Fraction(rate).limit_denominator(1001)
    return _object(
        _FORMAT_OBJECT,
        _ENUM_FORMAT,
        {
            _MEDIA_TYPE: _id(_VIDEO),
            _MEDIA_SUBTYPE: _id(_RAW),
            _PIXELS: _id(_YUY2),
            _SIZE: _pod(_RECTANGLE, struct.pack("=II", *size)),
            _RATE: _pod(_FRACTION, struct.pack("=II", exact.numerator, exact.denominator)),
            _COLOUR_RANGE: _id(_LIMITED_RANGE),
            _COLOUR_MATRIX: _id(_BT601),
        },
    )


def buffer_needs(size: tuple[int, int]) -> tuple[bytes, bytes]:
    """Buffer requirements of a frame, each with a time and a number."""
    stride = 2 * size[0]
    buffers = {
        _BUFFERS_COUNT: _choice(_RANGE, 4, 2, MOST_BUFFERS),
        _BUFFERS_BLOCKS: _int(1),
        _BUFFERS_SIZE: _int(stride * size[1]),
        _BUFFERS_STRIDE: _int(stride),
        _BUFFERS_MEMORY: _choice(_FLAGS, _MEMORY_POINTER | _MEMORY_FILE),
    }
    meta = {_META_TYPE: _id(META_HEADER), _META_SIZE: _int(c.sizeof(MetaHeader))}
    return _object(_BUFFERS_OBJECT, _BUFFERS, buffers), _object(_META_OBJECT, _META, meta)


# ---- the parts of the library's structures that are used ----


class _Chunk(c.Structure):
    _fields_ = (("offset", c.c_uint32), ("size", c.c_uint32), ("stride", c.c_int32), ("flags", c.c_int32))


class _Data(c.Structure):
    _fields_ = (
        ("type", c.c_uint32),
        ("flags", c.c_uint32),
        ("fd", c.c_int64),
        ("mapoffset", c.c_uint32),
        ("maxsize", c.c_uint32),
        ("data", c.c_void_p),
        ("chunk", c.POINTER(_Chunk)),
    )


class _Meta(c.Structure):
    _fields_ = (("type", c.c_uint32), ("size", c.c_uint32), ("data", c.c_void_p))


class MetaHeader(c.Structure):
    _fields_ = (
        ("flags", c.c_uint32),
        ("offset", c.c_uint32),
        ("pts", c.c_int64),
        ("dts_offset", c.c_int64),
        ("seq", c.c_uint64),
    )


class MetaBusy(c.Structure):
    _fields_ = (("flags", c.c_uint32), ("count", c.c_uint32))


class SpaBuffer(c.Structure):
    _fields_ = (
        ("n_metas", c.c_uint32),
        ("n_datas", c.c_uint32),
        ("metas", c.POINTER(_Meta)),
        ("datas", c.POINTER(_Data)),
    )


class Buffer(c.Structure):
    """Buffer. It grows with later versions, and is only read through a pointer."""

    _fields_ = (("buffer", c.POINTER(SpaBuffer)),)


class _DictItem(c.Structure):
    _fields_ = (("key", c.c_char_p), ("value", c.c_char_p))


class Dict(c.Structure):
    _fields_ = (("flags", c.c_uint32), ("n_items", c.c_uint32), ("items", c.POINTER(_DictItem)))


StateChanged = c.CFUNCTYPE(None, c.c_void_p, c.c_int, c.c_int, c.c_char_p)
ParamChanged = c.CFUNCTYPE(None, c.c_void_p, c.c_uint32, c.c_void_p)
BufferChanged = c.CFUNCTYPE(None, c.c_void_p, c.POINTER(Buffer))
Global = c.CFUNCTYPE(None, c.c_void_p, c.c_uint32, c.c_uint32, c.c_char_p, c.c_uint32, c.POINTER(Dict))
GlobalRemove = c.CFUNCTYPE(None, c.c_void_p, c.c_uint32)


class StreamEvents(c.Structure):
    _fields_ = (
        ("version", c.c_uint32),
        ("destroy", c.c_void_p),
        ("state_changed", StateChanged),
        ("control_info", c.c_void_p),
        ("io_changed", c.c_void_p),
        ("param_changed", ParamChanged),
        ("add_buffer", BufferChanged),
        ("remove_buffer", BufferChanged),
        ("process", c.c_void_p),
        ("drained", c.c_void_p),
    )


class RegistryEvents(c.Structure):
    _fields_ = (("version", c.c_uint32), ("appeared", Global), ("removed", GlobalRemove))


class Interface(c.Structure):
    """Head of core and registry: a table of methods, and the object to call them with."""

    _fields_ = (
        ("type", c.c_char_p),
        ("version", c.c_uint32),
        ("methods", c.POINTER(c.c_void_p)),
        ("data", c.c_void_p),
    )


GetRegistry = c.CFUNCTYPE(c.c_void_p, c.c_void_p, c.c_uint32, c.c_size_t)
AddListener = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_void_p, c.c_void_p, c.c_void_p)
#: Positions in the tables of methods; the first entry is the table's version.
CORE_GET_REGISTRY, REGISTRY_ADD_LISTENER = 6, 1
HOOK_BYTES = 6 * c.sizeof(c.c_void_p)

_FUNCTIONS: dict[str, tuple[type[c._SimpleCData] | None, list[type]]] = {  # type: ignore[type-arg]
    "pw_init": (None, [c.c_void_p, c.c_void_p]),
    "pw_log_set_level": (None, [c.c_int]),
    "pw_thread_loop_new": (c.c_void_p, [c.c_char_p, c.c_void_p]),
    "pw_thread_loop_get_loop": (c.c_void_p, [c.c_void_p]),
    "pw_thread_loop_start": (c.c_int, [c.c_void_p]),
    "pw_thread_loop_stop": (None, [c.c_void_p]),
    "pw_thread_loop_lock": (None, [c.c_void_p]),
    "pw_thread_loop_unlock": (None, [c.c_void_p]),
    "pw_thread_loop_destroy": (None, [c.c_void_p]),
    "pw_context_new": (c.c_void_p, [c.c_void_p, c.c_void_p, c.c_size_t]),
    "pw_context_connect": (c.c_void_p, [c.c_void_p, c.c_void_p, c.c_size_t]),
    "pw_context_destroy": (None, [c.c_void_p]),
    "pw_core_disconnect": (c.c_int, [c.c_void_p]),
    "pw_proxy_destroy": (None, [c.c_void_p]),
    "pw_properties_new_string": (c.c_void_p, [c.c_char_p]),
    "pw_stream_new": (c.c_void_p, [c.c_void_p, c.c_char_p, c.c_void_p]),
    "pw_stream_add_listener": (None, [c.c_void_p, c.c_void_p, c.c_void_p, c.c_void_p]),
    "pw_stream_connect": (c.c_int, [c.c_void_p, c.c_int, c.c_uint32, c.c_int, c.c_void_p, c.c_uint32]),
    "pw_stream_update_params": (c.c_int, [c.c_void_p, c.c_void_p, c.c_uint32]),
    "pw_stream_get_node_id": (c.c_uint32, [c.c_void_p]),
    "pw_stream_dequeue_buffer": (c.POINTER(Buffer), [c.c_void_p]),  # type: ignore[dict-item]
    "pw_stream_queue_buffer": (c.c_int, [c.c_void_p, c.POINTER(Buffer)]),
    "pw_stream_trigger_process": (c.c_int, [c.c_void_p]),
    "pw_stream_destroy": (None, [c.c_void_p]),
}


@functools.cache
def load_library() -> c.CDLL:
    """Loads libpipewire. Raises PipeWireError."""
    try:
        library = c.CDLL(LIBRARY, use_errno=True)
        for function, (result, arguments) in _FUNCTIONS.items():
            getattr(library, function).restype = result
            getattr(library, function).argtypes = arguments
    except (OSError, AttributeError) as error:
        raise PipeWireError(
            f"{LIBRARY} cannot be loaded: {error}",
            "install PipeWire 0.3.40 or later (Debian, Ubuntu: `sudo apt install libpipewire-0.3-0 pipewire`)",
        ) from error
    library.pw_init(None, None)
    library.pw_log_set_level(0)  # we report errors ourselves, not on the terminal
    return library


def pointers_to(*pods: bytes) -> c.Array[c.c_char_p]:
    """Array of pointers to `pods`, which keeps them alive."""
    return (c.c_char_p * len(pods))(*pods)
