"""Numbers in a file that outlives the process which counts, however that ends.

A file is for one process, the only one that writes to it, through shared memory: a count costs an addition, takes no
lock, and is in the file at once. Others read at any time.

    file     an eight-byte mark, eight bytes for the version of what is counted, then blocks
    block    a word with the lengths of key and cells, the key as JSON, padded to whole words, then the cells
    cell     a double, in the machine's own order of bytes

The file grows by segments, and no block lies in two of them. The first word of a block is written last, so that a block
is there wholly or not at all; a zero is the end of a segment's blocks. A cell is one aligned word, which is read and
written in one go.
"""

from __future__ import annotations

import functools
import json
import mmap
import os
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Key = tuple[str, ...]
"""What the cells of a block are about: the kind of block, then the values of its labels."""

Cells: TypeAlias = "memoryview[float]"
"""The cells of a block: `cells[3] += 1`."""

SEGMENT: Final = 65536
"""A multiple of what any system maps."""
_WORD: Final = 8
_MARK: Final = int.from_bytes(b"pgtcells")
_CELLS_BITS: Final = 32


class CellFile:
    """The file of this process.

    Args:
        path: where it is to be; it must not be there yet.
        version: of what is counted; readers skip files of another one.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, path: Path, version: int) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self._segments = 0
        self._add_segment()
        self._words[1] = version
        self._words[0] = _MARK
        self._next = 2

    def add(self, key: Key, cells: int) -> Cells:
        """Add a block of so many cells, all zero.

        Raises:
            OSError: there is no room for it.
        """
        name = json.dumps(key, ensure_ascii=False).encode(errors="replace")
        key_words = -(-len(name) // _WORD)
        if self._next + 1 + key_words + cells > SEGMENT // _WORD:
            self._add_segment()
            self._next = 0
        begin = self._next
        first = begin + 1 + key_words
        self._map[(begin + 1) * _WORD : (begin + 1) * _WORD + len(name)] = name
        self._words[begin] = len(name) << _CELLS_BITS | cells
        self._next = first + cells
        return self._numbers[first : self._next]

    def _add_segment(self) -> None:
        # Written, and not only reserved: on a full disk this is an error, and not a SIGBUS later.
        offset = self._segments * SEGMENT
        if os.pwrite(self._descriptor, bytes(SEGMENT), offset) < SEGMENT:
            raise OSError(f"no room for {SEGMENT} bytes of counts")
        self._map = mmap.mmap(self._descriptor, SEGMENT, offset=offset)
        self._words = memoryview(self._map).cast("Q")
        self._numbers = memoryview(self._map).cast("d")
        self._segments += 1


def read_cells(path: Path, version: int) -> Iterator[tuple[Key, list[float]]]:
    """Yield the blocks of a file; of one that has another version, or is being made, nothing.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size // SEGMENT * SEGMENT
        if not size:
            return
        with (
            mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ) as memory,
            memoryview(memory) as view,
            view.cast("Q") as words,
            view.cast("d") as numbers,
        ):
            if words[0] != _MARK or words[1] != version:
                return
            for segment in range(0, size // _WORD, SEGMENT // _WORD):
                place = segment or 2
                while place < segment + SEGMENT // _WORD and (lengths := words[place]):
                    length, cells = lengths >> _CELLS_BITS, lengths & ((1 << _CELLS_BITS) - 1)
                    begin = (place + 1) * _WORD
                    place += 1 + -(-length // _WORD)
                    yield _parsed(bytes(view[begin : begin + length])), list(numbers[place : place + cells])
                    place += cells


@functools.lru_cache(maxsize=10_000)
def _parsed(key: bytes) -> Key:
    return tuple(json.loads(key))
