"""Python's collector of cycles, held back while much is made that stays.

Thousands of definitions are millions of objects, and the collector looks at all of them again and again while
they are made: a third of the time of a load. None of them is garbage.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collection_paused() -> Iterator[None]:
    """No collection of cycles in the block, nor in other threads meanwhile. May be nested."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
