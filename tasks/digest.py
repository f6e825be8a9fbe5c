"""A digest of a table's content."""

import hashlib
import json
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Part = tuple[str, bytes | memoryview]  # which part of a column, and its bytes


def digest(table: pa.Table) -> str:
    """SHA-256 of the rows, computed from Arrow's buffers. It doesn't depend on chunking or storage.

    A column consists of a few byte streams: nulls, lengths and values. Each has a checksum, and the digest is over all
    of them with their names.
    """
    streams: dict[str, hashlib._Hash] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        for chunk in column.chunks:
            for stream, content in parts(json.dumps(name), chunk):
                streams.setdefault(stream, hashlib.sha256()).update(content)
    return hashlib.sha256(json.dumps({name: s.hexdigest() for name, s in streams.items()}).encode()).hexdigest()


def parts(name: str, array: pa.Array) -> Iterator[Part]:
    """The streams of an array and its nested arrays, by name."""
    kind = array.type
    yield f"{name} valid", one_a_row(pc.is_valid(array))
    if pa.types.is_struct(kind):
        for field, values in zip(kind, array.flatten(), strict=True):
            yield from parts(f"{name}.{field.name}", values)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield f"{name} lengths", one_a_row(pc.fill_null(pc.list_value_length(array), 0).cast(pa.int64()))
        yield from parts(f"{name}[]", array.flatten())
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        texts = pc.fill_null(array.cast(pa.large_string()), "")
        yield f"{name} lengths", one_a_row(pc.binary_length(texts))
        yield f"{name} text", characters(texts)
    elif pa.types.is_integer(kind):
        yield f"{name} int", one_a_row(pc.fill_null(array.cast(pa.int64()), 0))
    elif pa.types.is_floating(kind):
        yield f"{name} float", one_a_row(pc.fill_null(array.cast(pa.float64()), 0.0))
    else:
        yield f"{name} {kind}", "".join(json.dumps(value, default=str) + "\n" for value in array.to_pylist()).encode()


def one_a_row(array: pa.Array) -> bytes:
    """Numbers or booleans without nulls."""
    return np.ascontiguousarray(array.to_numpy(zero_copy_only=False)).tobytes()


def characters(texts: pa.LargeStringArray) -> memoryview:
    """All texts concatenated in UTF-8."""
    _, offsets, data = texts.buffers()
    if data is None:
        return memoryview(b"")
    first, last = np.frombuffer(offsets, dtype=np.int64)[[texts.offset, texts.offset + len(texts)]]
    return memoryview(data)[first:last]
