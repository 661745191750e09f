"""Read the variables of a TensorFlow 2 checkpoint without TensorFlow.

A checkpoint is an index, which is a LevelDB table of BundleEntryProto messages by key, beside data files that
hold the tensors end to end (tensorflow/core/util/tensor_bundle). The keys differ between exports of the same
network; the variables' true names stand in the checkpoint's own object graph, stored under one more key
(tensorflow/core/protobuf/trackable_object_graph.proto).

The reader is our own because the one in the package registry is unmaintained, and protobuf's is left out because
ComfyUI's environments quarrel about its version; six message types of plain fields need little.
"""

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from .errors import FilmError

_OBJECT_GRAPH = b"_CHECKPOINTABLE_OBJECT_GRAPH"
_TABLE_MAGIC = 0xDB4775248B80FB57
_FOOTER_SIZE, _BLOCK_TRAILER_SIZE = 48, 5
_FLOAT32, _STRING = 1, 7  # tensorflow/core/framework/types.proto
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # protobuf's wire types


class _Entry(NamedTuple):
    """Where a tensor lies (BundleEntryProto)."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    sliced: bool


def read_variables(index: Path, wanted: re.Pattern[str]) -> dict[str, NDArray[np.float32]]:
    """Read the float32 variables of a checkpoint under their full names, checksums verified.

    Args:
        index: the checkpoint's ``….index`` file; its ``….data-…`` files lie beside it.
        wanted: what a full name must match whole; an optimizer's or a metric's variables are passed over.

    Returns:
        Arrays by full name ("fusion/conv2d/kernel"), shaped as TensorFlow has them (kernels HWIO).

    Raises:
        FilmError: a file is missing, cut short, damaged, or of a kind that FILM's exports don't use.
    """
    try:
        return _read_variables(index, wanted)
    except OSError as error:
        raise FilmError(f"Checkpoint file {Path(error.filename or index).name} can't be read ({error.strerror}): fetch "
                        "the SavedModel again.") from error
    except (ValueError, IndexError, OverflowError, struct.error) as error:
        raise FilmError(f"Checkpoint {index.name} is damaged ({error}): fetch the SavedModel again.") from error


def _read_variables(index: Path, wanted: re.Pattern[str]) -> dict[str, NDArray[np.float32]]:
    table = dict(_table_entries(index.read_bytes()))
    if b"" not in table:
        raise ValueError("its header is missing")
    header = dict(_fields(table.pop(b"")))
    if _integer(header.get(2, 0)):
        raise ValueError("it is big-endian")
    shards = _Shards(index, _integer(header.get(1, 1)))
    entries = {key: _entry(value) for key, value in table.items()}
    if _OBJECT_GRAPH not in entries:
        raise ValueError("it has no object graph, so its variables have no names")
    variables: dict[str, NDArray[np.float32]] = {}
    for name, key in _names(shards.string(entries[_OBJECT_GRAPH])):
        if not wanted.fullmatch(name):
            continue
        entry = entries.get(key)
        if entry is None:
            raise ValueError(f"{name!r} is named but not stored")
        if entry.dtype != _FLOAT32:
            raise ValueError(f"{name!r} is not float32")
        if name in variables:
            raise ValueError(f"two variables are named {name!r}")
        if entry.sliced:
            raise ValueError(f"{name!r} is stored in slices")
        variables[name] = shards.float32(entry, name)
    return variables


class _Shards:
    """The data files of a checkpoint."""

    def __init__(self, index: Path, count: int) -> None:
        self._paths = [index.with_suffix(f".data-{shard:05d}-of-{count:05d}") for shard in range(min(count, 1000))]

    def float32(self, entry: _Entry, name: str) -> NDArray[np.float32]:
        data = self._bytes(entry)
        count = 1
        for side in entry.shape:
            count *= side
        if len(data) != 4 * count:
            raise ValueError(f"{name!r} has {len(data)} bytes for the shape {entry.shape}")
        if _masked_crc(data) != entry.crc:
            raise ValueError(f"the checksum of {name!r} is wrong")
        return np.frombuffer(data, "<f4").reshape(entry.shape)

    def string(self, entry: _Entry) -> memoryview:
        """Return a scalar string: a varint length, that length's checksum, then the text."""
        data = memoryview(self._bytes(entry))
        length, start = _varint(data, 0)
        text = data[start + 4:]
        if entry.dtype != _STRING or len(text) != length:
            raise ValueError("the object graph is cut short")
        checksum = google_crc32c.value(struct.pack("<I", length))
        checksum = google_crc32c.extend(checksum, struct.pack("<I", _mask(checksum)))
        if _mask(google_crc32c.extend(checksum, bytes(text))) != entry.crc:
            raise ValueError("the checksum of the object graph is wrong")
        return text

    def _bytes(self, entry: _Entry) -> bytes:
        if not 0 <= entry.shard < len(self._paths):
            raise ValueError(f"it refers to data file {entry.shard} of {len(self._paths)}")
        path = self._paths[entry.shard]
        if entry.offset + entry.size > path.stat().st_size:
            raise ValueError(f"{path.name} is cut short")
        with path.open("rb") as file:
            file.seek(entry.offset)
            return file.read(entry.size)


def _table_entries(table: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield (key, value) of a LevelDB table (github.com/google/leveldb, doc/table_format.md)."""
    if len(table) < _FOOTER_SIZE or struct.unpack_from("<Q", table, len(table) - 8)[0] != _TABLE_MAGIC:
        raise ValueError("its index is not a whole LevelDB table")
    footer = memoryview(table)[-_FOOTER_SIZE:]
    _block(table, footer)  # the meta index, which nothing here needs, but it must be whole too
    position = 0
    for _ in range(2):  # past its handle
        _, position = _varint(footer, position)
    for _, handle in _block_entries(_block(table, footer[position:])):
        yield from _block_entries(_block(table, handle))


def _block(table: bytes, handle: memoryview) -> memoryview:
    offset, position = _varint(handle, 0)
    size, _ = _varint(handle, position)
    end = offset + size
    if end + _BLOCK_TRAILER_SIZE > len(table):
        raise ValueError("its index points past its end")
    compression, checksum = struct.unpack_from("<BI", table, end)
    if _masked_crc(table[offset:end + 1]) != checksum:
        raise ValueError("a checksum in its index is wrong")
    if compression:
        raise ValueError("its index is compressed, which TensorFlow never does")
    return memoryview(table)[offset:end]


def _block_entries(block: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Yield (key, value) of a block; each key is stored as what differs from the one before it."""
    restarts = struct.unpack_from("<I", block, len(block) - 4)[0]
    end = len(block) - 4 * (restarts + 1)
    position, key = 0, b""
    while position < end:
        shared, position = _varint(block, position)
        unshared, position = _varint(block, position)
        size, position = _varint(block, position)
        value_at = position + unshared
        if shared > len(key) or value_at + size > end:
            raise ValueError("an entry of its index runs past its block")
        key = key[:shared] + bytes(block[position:value_at])
        position = value_at + size
        yield key, block[value_at:position]


def _entry(message: memoryview) -> _Entry:
    fields = dict(_fields(message))
    shape = []
    for number, dimension in _fields(_message(fields.get(2, memoryview(b"")))):
        if number == 2:
            shape.append(_integer(dict(_fields(_message(dimension))).get(1, 0)))
    dtype, shard, offset, size, crc = (_integer(fields.get(number, 0)) for number in (1, 3, 4, 5, 6))
    return _Entry(dtype, tuple(shape), shard, offset, size, crc, sliced=7 in fields)


def _names(object_graph: memoryview) -> Iterator[tuple[str, bytes]]:
    """Yield (full name, checkpoint key) of every variable of a TrackableObjectGraph."""
    for number, node in _fields(object_graph):
        if number != 1:
            continue
        for part, attribute in _fields(_message(node)):
            if part != 2:
                continue
            texts = dict(_fields(_message(attribute)))
            if bytes(_message(texts.get(1, memoryview(b"")))) == b"VARIABLE_VALUE" and 2 in texts and 3 in texts:
                yield bytes(_message(texts[2])).decode(), bytes(_message(texts[3]))


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield (field number, value) of a protobuf message (protobuf.dev/programming-guides/encoding)."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, wire = tag >> 3, tag & 7
        value: int | memoryview
        if wire == _VARINT:
            value, position = _varint(message, position)
        elif wire in (_FIXED32, _FIXED64):
            value = struct.unpack_from("<I" if wire == _FIXED32 else "<Q", message, position)[0]
            position += 4 if wire == _FIXED32 else 8
        elif wire == _BYTES:
            size, position = _varint(message, position)
            value, position = message[position:position + size], position + size
            if len(value) != size:
                raise ValueError("a message is cut short")
        else:
            raise ValueError(f"a message has wire type {wire}")
        yield number, value


def _integer(value: int | memoryview) -> int:
    if not isinstance(value, int):
        raise ValueError("a message has text where a number belongs")
    return value


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a message has a number where text belongs")
    return value


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """Return the base-128 number at position, and the position behind it."""
    value = 0
    for shift in range(0, 64, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number is longer than 64 bits")


def _masked_crc(data: bytes) -> int:
    return _mask(google_crc32c.value(data))


def _mask(crc: int) -> int:
    """Mask a CRC32C as LevelDB does, so that a checksum of checksums keeps its strength."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
