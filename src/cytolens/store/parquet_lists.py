"""A column of structs of lists in a Parquet file, which fastparquet itself cannot write.

What is written follows the Parquet format's own specification (apache/parquet-format:
`Encodings.md`, `LogicalTypes.md`, section "Lists"): one uncompressed plain page per field, with
repetition and definition levels in the hybrid of run lengths and packed bits.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from fastparquet.cencoding import ThriftObject, from_buffer
from numpy.typing import NDArray

_TYPES = {np.dtype("int32"): 1, np.dtype("float32"): 4}  # parquet.thrift, enum Type
_PLAIN, _RLE, _DATA_PAGE, _UNCOMPRESSED, _LIST = 0, 3, 0, 0, 3
_REQUIRED, _REPEATED = 0, 2


def append_lists(path: Path, name: str, fields: Mapping[str, NDArray[Any]]) -> None:
    """Add a column ``name`` to a Parquet file: per row a struct of one list per field.

    ``fields`` hold int32 or float32 arrays (N, k), k ≥ 1; N is the number of rows of the file,
    which must have one row group. The file is written in place.
    """
    data = path.read_bytes()
    size = int.from_bytes(data[-8:-4], "little")
    footer = from_buffer(data[-8 - size : -8], "FileMetaData")
    body = bytearray(data[: -8 - size])
    footer.schema[0].num_children += 1
    schema = [_thrift("SchemaElement", name=name, repetition_type=_REQUIRED, num_children=2)]
    chunks: list[Any] = []
    for field, values in fields.items():
        kind = _TYPES[values.dtype]
        schema += [
            _thrift(
                "SchemaElement",
                name=field,
                repetition_type=_REQUIRED,
                num_children=1,
                converted_type=_LIST,
            ),
            _thrift("SchemaElement", name="list", repetition_type=_REPEATED, num_children=1),
            _thrift("SchemaElement", name="element", repetition_type=_REQUIRED, type=kind),
        ]
        page = _page(values)
        description = _thrift(
            "ColumnMetaData",
            type=kind,
            encodings=[_PLAIN, _RLE],
            path_in_schema=[name, field, "list", "element"],
            codec=_UNCOMPRESSED,
            num_values=values.size,
            total_uncompressed_size=len(page),
            total_compressed_size=len(page),
            data_page_offset=len(body),
        )
        chunks.append(_thrift("ColumnChunk", file_offset=len(body), meta_data=description))
        body += page
    footer.schema = [*footer.schema, *schema]
    group = footer.row_groups[0]
    group.columns = [*group.columns, *chunks]
    group.total_byte_size += sum(chunk.meta_data.total_compressed_size for chunk in chunks)
    tail = bytes(footer.to_bytes())
    path.write_bytes(bytes(body) + tail + len(tail).to_bytes(4, "little") + b"PAR1")


def _page(values: NDArray[Any]) -> bytes:
    """Header, levels and values of the lists (N, k): a list starts where the repetition is 0."""
    repetition = np.ones(values.shape, dtype=np.uint8)
    repetition[:, 0] = 0
    packed = np.packbits(repetition.ravel(), bitorder="little").tobytes()
    levels = [_varint(len(packed) << 1 | 1) + packed, _varint(values.size << 1) + b"\x01"]
    content = b"".join(len(level).to_bytes(4, "little") + level for level in levels)
    content += np.ascontiguousarray(values).tobytes()
    header = _thrift(
        "PageHeader",
        type=_DATA_PAGE,
        uncompressed_page_size=len(content),
        compressed_page_size=len(content),
        data_page_header=_thrift(
            "DataPageHeader",
            num_values=values.size,
            encoding=_PLAIN,
            definition_level_encoding=_RLE,
            repetition_level_encoding=_RLE,
        ),
    )
    return bytes(header.to_bytes()) + content


def _varint(number: int) -> bytes:
    """An unsigned number in groups of seven bits, the lowest first (LEB128)."""
    parts: list[int] = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


_I32 = {  # thrift fields that are 32-bit integers, by their numbers; the other integers have 64
    "SchemaElement": [1, 3, 5, 6],
    "ColumnMetaData": [1, 4],
    "PageHeader": [1, 2, 3],
    "DataPageHeader": [1, 2, 3, 4],
}


def _thrift(kind: str, **fields: Any) -> Any:
    return ThriftObject.from_fields(kind, **fields, i32list=_I32.get(kind))
