"""What clickhouse-driver reads is what chDB's Arrow says, for every family.

No server newer than 18.16 can be had for tests: the driver's reader gets blocks in chDB's Native format.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import orjson
import pyarrow as pa
import pytest
from chdb.session import Session
from clickhouse_driver.arrow.convert import create_record_batch_reader
from clickhouse_driver.bufferedreader import BufferedSocketReader
from clickhouse_driver.context import Context
from clickhouse_driver.protocol import ServerPacketTypes
from clickhouse_driver.streams.native import BlockInputStream

import endpoints.warehouse.connection  # noqa: F401  (mends the driver's columns)
from endpoints.errors import UnsupportedType
from endpoints.types import Column, driver_type, json_values, parse_type, to_storage

UUID = "toUUID('61f0c404-5cb3-11e7-907b-a6006ad3dba0')"


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    session = Session()
    yield session
    session.close()


def blocks(data: bytes) -> Iterator[SimpleNamespace]:
    """The driver's packets for chDB's Native output."""
    ours, theirs = socket.socketpair()
    sender = threading.Thread(target=lambda: (ours.sendall(data), ours.close()))
    sender.start()
    context = Context()
    context.server_info = SimpleNamespace(used_revision=0, get_timezone=lambda: "UTC")
    context.settings = {}
    context.client_settings = {"use_numpy": True, "use_arrow": True, "strings_as_bytes": True}
    stream = BlockInputStream(BufferedSocketReader(theirs, 65536), context)
    with theirs:
        while True:
            try:
                yield SimpleNamespace(type=ServerPacketTypes.DATA, block=stream.read(), context=context)
            except EOFError:
                break
    sender.join()


def column_of(session: Session, sql: str) -> Column:
    line = session.query(f"DESCRIBE ({sql})", "JSONCompactEachRow").bytes().splitlines()[0]
    return Column("c", parse_type(orjson.loads(line)[1]))


VALUES = [
    *(
        "toUInt8(255)",
        "toInt64(-9223372036854775808)",
        "toUInt64(18446744073709551615)",
        "0.1",
        "toFloat32(0.1)",
    ),
    *(
        "toInt128('-170141183460469231731687303715884105728')",
        "toUInt128('340282366920938463463374607431768211455')",
    ),
    *(
        "toInt256(-5)",
        "[toUInt256(5)]",
        "map('a', toInt128(1))",
        "toDecimal32('1.20', 2)",
        "toDecimal256('-1.2', 5)",
    ),
    *("true", "'a'", "''", "'\\xff'", "toFixedString('ab', 4)", "toLowCardinality(toFixedString('a', 3))"),
    *("toNullable('a')", "CAST(NULL AS Nullable(UInt8))", "toLowCardinality('a')", "[toLowCardinality('a')]"),
    *(
        "CAST('it\\'s' AS Enum8('it\\'s' = 1))",
        "[CAST('a' AS Enum16('a' = -500))]",
        "toLowCardinality(toNullable('a'))",
    ),
    *(
        UUID,
        f"[{UUID}]",
        f"tuple({UUID}, 1)",
        f"map({UUID}, toIPv4('1.2.3.4'))",
        f"map({UUID}, toDateTime(0))",
    ),
    *(
        "toIPv4('1.2.3.4')",
        "[toIPv4('1.2.3.4')]",
        "tuple(toIPv4('1.2.3.4'))",
        "toIPv6('::1')",
        "[toIPv6('2001:db8::1')]",
    ),
    *("toDate('2149-06-06')", "toDate32('1920-01-01')", "[toDate32('1920-01-01')]", "toDateTime(4294967295)"),
    *(
        "toDateTime(0, 'Europe/Berlin')",
        "[toDateTime(5)]",
        "tuple(toDateTime(5, 'Asia/Kolkata'), toDateTime(6))",
    ),
    *(f"toDateTime64('2290-01-01 00:00:00.123456', {scale}, 'UTC')" for scale in range(7)),
    *("toDateTime64('2020-01-01 00:00:00.123456789', 9)", "[toDateTime64('2020-01-01 00:00:00.123456', 6)]"),
    *("(1, 'a')", "CAST((1, 'a') AS Tuple(a UInt8, `b c` String))", "[(1, 'a')]", "map('a', (1, 'b'))"),
    *(
        "tuple([tuple('a', map('k', 1))])",
        "tuple(toNullable(1), NULL::Nullable(String), toDecimal32(1, 2), true)",
    ),
    *(
        "(1.0, 2.0)::Point",
        "[[(1.0, 2.0)]]::Polygon",
        "[(1, 2)]::Nested(a UInt8, b UInt8)",
        "map()::Map(String, UInt8)",
    ),
    *("map('a', 1, 'b', 2)", "[]::Array(String)", "[[1], []]", "[toNullable(1), NULL]"),
]


@pytest.mark.parametrize("value", VALUES)
def test_the_driver_reads_what_chdb_writes(session: Session, value: str) -> None:
    sql = f"SELECT {value} AS c FROM numbers(2)"
    column = column_of(session, sql)
    packets = list(blocks(session.query(sql, "Native").bytes()))
    told = {"c": kind} if (kind := driver_type(column)) is not None else {}
    read = create_record_batch_reader(iter(packets), packets[0].context, arrow_types=told).read_all()
    live = pa.Table.from_batches(list(session.send_query(sql, "Arrow").record_batch()))
    ours, theirs = (to_storage(t.column(0).combine_chunks(), column.type) for t in (read, live))
    assert ours.equals(theirs)
    assert len(json_values(ours, column.type, timezone="UTC")) == 2


@pytest.mark.parametrize(
    "text",
    [
        *("Array(DateTime64(9))", "Tuple(DateTime64(7, 'UTC'), UInt8)", "Nullable(Tuple(a UInt8, b UInt8))"),
        *("Tuple(IPv6, UInt8)", "Map(IPv6, Int128)"),
    ],
)
def test_what_the_driver_reads_wrongly_is_refused(text: str) -> None:
    with pytest.raises(UnsupportedType, match=r"column 'c'.*select toJSONString\(c\) instead"):
        driver_type(Column("c", parse_type(text)))
