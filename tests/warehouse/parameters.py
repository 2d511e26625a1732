"""Values that parameters must carry unchanged, whichever way a warehouse binds them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

INSTANT = datetime(2024, 3, 31, 0, 30, tzinfo=UTC)

# Type and value of a parameter, and how the value reads back in storage form.
PARAMETERS: list[tuple[str, Any, Any]] = [
    ("UInt8", 255, 255),
    ("UInt64", 2**64 - 1, 2**64 - 1),
    ("Int64", -(2**63), -(2**63)),
    ("Float64", -0.1, -0.1),
    ("String", "a'b\\c\n\t\0\"`{x:String} -- /* */ \\N", b"a'b\\c\n\t\0\"`{x:String} -- /* */ \\N"),
    ("String", "\\N", b"\\N"),
    ("String", "", b""),
    ("Nullable(String)", None, None),
    ("Nullable(String)", "\\N", b"\\N"),
    ("Date", date(2024, 2, 29), date(2024, 2, 29)),
    ("DateTime('UTC')", INSTANT, INSTANT),
    ("DateTime('Europe/Berlin')", INSTANT, INSTANT),
    ("Decimal(18, 4)", Decimal("-12.3400"), Decimal("-12.3400")),
    (
        "UUID",
        UUID("61f0c404-5cb3-11e7-907b-a6006ad3dba0"),
        UUID("61f0c404-5cb3-11e7-907b-a6006ad3dba0").bytes,
    ),
    ("Array(String)", ["a'b", "", "c,d]"], [b"a'b", b"", b"c,d]"]),
    ("Array(UInt32)", [], []),
    ("Array(Nullable(Int8))", [1, None], [1, None]),
]
