"""Writing a tape file: the run hands over stored bytes, a thread of this module's own packs and writes them.

``take`` costs the run two copies into a buffer; compression and disk run beside it, outside the interpreter's lock. At
most ``QUEUED_SEGMENTS`` wait, then the run waits for the disk: memory does not grow with the tape. A run that ends by
an exception keeps every fact it recorded, without the end that only a finished run has.

The hash of each fact comes from whoever recorded it; only blocks given without one are chained here.
"""

from __future__ import annotations

import os
import queue
import threading
import zlib
from bisect import bisect_left
from contextlib import suppress
from io import FileIO
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from tapeline_common.recording import RecordingFailed, RecordingRefused
from tapeline_common.sequencer import Recorded
from tapeline_common.tape_file_format import (
    HEAD,
    End,
    Envelope,
    NoTapeFile,
    Segment,
    attachment_frame,
    check_head,
    end_frame,
    pack,
    segment_frame,
)
from tapeline_common.wire import GENESIS, chain_all

if TYPE_CHECKING:
    from tapeline_common.recording import Lengths

SEGMENT_BYTES = 1024 * 1024
"""Bytes of facts in a segment, about 2,500 facts: found and unpacked in a few milliseconds, and small enough that the
buffer grows without being moved about."""

QUEUED_SEGMENTS = 8

_envelope_decoder = msgspec.json.Decoder(Envelope)


class TapeWriter:
    """Appends facts to a new tape file; a context manager that ends the file if its block ends well.

    Args:
        path: where; its folder must exist.
        replace: overwrite a tape file that is there. Any other kind of file is never overwritten.
        attachment: bytes to be kept with the facts; see ``tape_file_format``.

    Raises ``RecordingRefused`` at once, and ``RecordingFailed`` from any later call when the disk fails.
    """

    def __init__(
        self, path: Path, *, replace: bool = False, segment_bytes: int = SEGMENT_BYTES, attachment: bytes = b""
    ) -> None:
        self.path = path
        self._file = _opened(path, replace)
        self._segment_bytes = segment_bytes
        self._buffer = bytearray()
        self._hash = self._cut_hash = GENESIS
        self._segments: list[Segment] = []
        self._offset = 0
        self._failure: Exception | None = None
        self._closed = False
        self._queue: queue.Queue[tuple[bytearray, bytes] | None] = queue.Queue(QUEUED_SEGMENTS)
        self._thread = threading.Thread(target=self._work, name=f"tape file {path.name}", daemon=True)
        self._write(HEAD + attachment_frame(attachment))
        if self._failure is not None:
            self._file.close()
            raise RecordingRefused(f"{path} cannot be written ({self._failure.strerror})") from self._failure
        self._thread.start()

    def take(self, recorded: Recorded) -> None:
        """Append the next fact."""
        buffer = self._buffer
        buffer += recorded.payload
        buffer += b"\n"
        self._hash = recorded.hash
        if len(buffer) >= self._segment_bytes:
            self._cut()

    def take_block(self, payloads: bytes, lengths: Lengths, head_hash: bytes | None = None) -> None:
        """Append many facts at once; equal in effect to ``take`` of each.

        Args:
            payloads: stored bytes of the facts, in order, with nothing between them.
            lengths: bytes of each, shape (n,); their sum is ``len(payloads)``.
            head_hash: hash after the last of them. Without it, and in blocks larger than a segment, the facts are
                chained here, 0.6 microseconds each: a segment can end only where the hash is known.
        """
        sizes = np.asarray(lengths, dtype=np.int64)
        assert int(sizes.sum()) == len(payloads), f"lengths sum to {sizes.sum()}, the block has {len(payloads)} bytes"
        bounds: list[int] = [0, *np.cumsum(sizes).tolist()]
        facts = [payloads[start:stop] for start, stop in pairwise(bounds)]
        if head_hash is not None and len(payloads) <= self._segment_bytes:
            self._extend(facts, head_hash)
            return
        written: list[int] = [0, *np.cumsum(sizes + 1).tolist()]
        start = 0
        while start < len(facts):
            full = written[start] + self._segment_bytes - len(self._buffer)
            stop = min(bisect_left(written, full, start + 1), len(facts))
            piece = facts[start:stop]
            self._extend(piece, chain_all(self._hash, piece))
            start = stop

    def close(self) -> None:
        """Write what is left, and the end. Returns when all of it is on the disk."""
        self._finish()
        if self._failure is None:
            facts = self._segments[-1].last if self._segments else 0
            self._write(end_frame(End(facts, self._hash.hex(), tuple(self._segments))))
            if self._failure is None:
                os.fsync(self._file.fileno())
        self._file.close()
        self._raise_failure()

    def abandon(self) -> None:
        """Write what is left without an end: the run did not come to its own. Raises nothing.

        An interrupt may have come between the parts of a ``take``, so only whole lines count and are chained anew.
        """
        del self._buffer[self._buffer.rfind(b"\n") + 1 :]
        if self._buffer:
            self._hash = chain_all(self._cut_hash, self._buffer[:-1].split(b"\n"))
        self._finish()
        self._file.close()

    def flush(self) -> None:
        """Make a segment of what was taken since the last one, and wait until the system has everything.

        A killed process loses nothing of it. Each call that has something costs a segment, so whoever calls it for
        every fact gets a large file.
        """
        if self._buffer:
            self._cut()
        self._queue.join()
        self._raise_failure()

    @property
    def written(self) -> int:
        """Bytes of the file so far."""
        return self._offset

    def __enter__(self) -> TapeWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def _extend(self, payloads: list[bytes], head_hash: bytes) -> None:
        if payloads:
            self._buffer += b"\n".join([*payloads, b""])
            self._hash = head_hash
            if len(self._buffer) >= self._segment_bytes:
                self._cut()

    def _cut(self) -> None:
        self._raise_failure()
        self._queue.put((self._buffer, self._hash))
        self._buffer = bytearray()
        self._cut_hash = self._hash

    def _finish(self) -> None:
        assert not self._closed, f"{self.path} is closed"
        self._closed = True
        if self._buffer:
            self._queue.put((self._buffer, self._hash))
            self._buffer = bytearray()
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        """The thread: goes on taking after a failure, so that the run is never stuck, and writes nothing more."""
        while (given := self._queue.get()) is not None:
            if self._failure is None:
                try:
                    self._write_segment(*given)
                except Exception as trouble:
                    self._failure = trouble
            self._queue.task_done()

    def _write_segment(self, lines: bytearray, head_hash: bytes) -> None:
        first, last = _ends_of(lines)
        facts = last.pos - first.pos + 1
        expected = self._segments[-1].last + 1 if self._segments else 1
        assert first.pos == expected, f"position {first.pos} does not follow {expected - 1}"
        assert facts == lines.count(b"\n"), f"positions {first.pos} to {last.pos} are {lines.count(10)} lines"
        frame = pack(lines)
        segment = Segment(
            offset=self._offset,
            first=first.pos,
            facts=facts,
            size=len(lines),
            packed=len(frame),
            crc32=zlib.crc32(frame),
            first_time_ns=first.time_ns,
            last_time_ns=last.time_ns,
            hash=head_hash.hex(),
        )
        self._write(segment_frame(segment) + frame)
        if self._failure is None:
            self._segments.append(segment)

    def _write(self, data: bytes) -> None:
        """Write whole, or go back to where the file was whole and remember why."""
        try:
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]
            self._offset += len(data)
        except OSError as trouble:
            self._failure = trouble
            with suppress(OSError):
                self._file.truncate(self._offset)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            if not isinstance(self._failure, OSError):
                raise self._failure
            raise RecordingFailed(self._trouble()) from self._failure

    def _trouble(self) -> str:
        reason = getattr(self._failure, "strerror", None) or str(self._failure)
        last = self._segments[-1].last if self._segments else 0
        return f"{self.path} cannot be written ({reason}): it holds the tape up to position {last}, without an end"


def _ends_of(lines: bytearray) -> tuple[Envelope, Envelope]:
    """Envelopes of the first and the last fact of a segment."""
    first = lines[: lines.index(b"\n")]
    last = lines[lines.rfind(b"\n", 0, -1) + 1 : -1]
    return _envelope_decoder.decode(first), _envelope_decoder.decode(last)


def _opened(path: Path, replace: bool) -> FileIO:
    try:
        if replace and path.exists() and path.stat().st_size:
            _refuse_other(path)
        return path.open("wb" if replace else "xb", buffering=0)
    except FileExistsError:
        raise RecordingRefused(f"{path} is there already: name another file, or replace it with --force") from None
    except FileNotFoundError:
        raise RecordingRefused(f"{path} cannot be made: there is no folder {path.parent}") from None
    except OSError as trouble:
        raise RecordingRefused(f"{path} cannot be written ({trouble.strerror}): name another file") from trouble


def _refuse_other(path: Path) -> None:
    with path.open("rb") as file:
        try:
            check_head(file.read(4096))
        except NoTapeFile:
            raise RecordingRefused(f"{path} is no tape file, so it is not replaced: name another file") from None
