"""What services tell the C library to do with freed memory, asked of the C library itself."""

import ctypes
import os
import subprocess
import sys

import pytest

from tapeline_common.embedded import ALLOCATOR

ACCOUNT = """
import ctypes

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
                "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype, libc.malloc.restype, libc.free.argtypes = Info, ctypes.c_void_p, [ctypes.c_void_p]
"""

SMALL_ONES_KEPT = """
before = libc.mallinfo2().uordblks
blocks = [libc.malloc(size) for size in range(520, 1020, 16) for _ in range(7)]
for block in blocks:
    libc.free(block)
del blocks
print(libc.mallinfo2().uordblks - before)
"""
"""Prints how much of what it freed the C library still counts as used: it is kept for the thread that had it."""

LARGE_ONES_APART = """
before = libc.mallinfo2().hblkhd
blocks = [libc.malloc(60_000) for _ in range(10)]
print(libc.mallinfo2().hblkhd - before)
"""
"""Prints how much of what it took does not lie in the heap."""

END_NOT_GIVEN_BACK = """
libc.free(libc.malloc(20_000_000))  # a large block that comes and goes moves glibc's own thresholds
blocks = [libc.malloc(30_000) for _ in range(100)]
for block in blocks:
    libc.free(block)
del blocks
print(libc.mallinfo2().keepcost)
"""
"""Prints how much lies free at the end of the heap."""

pytestmark = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="only glibc since 2.33 gives this account"
)


def told(program: str, variables: dict[str, str]) -> int:
    others = {name: value for name, value in os.environ.items() if name not in ALLOCATOR}
    done = subprocess.run(
        [sys.executable, "-c", ACCOUNT + program], env=others | variables, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_freed_blocks_are_not_kept_for_their_thread_size_by_size() -> None:
    assert told(SMALL_ONES_KEPT, {}) > 100_000, "kept unless told otherwise, or this test sees nothing"
    assert told(SMALL_ONES_KEPT, ALLOCATOR) < 10_000


def test_large_blocks_do_not_stretch_the_heap() -> None:
    assert told(LARGE_ONES_APART, {}) == 0, "in the heap unless told otherwise, or this test sees nothing"
    assert told(LARGE_ONES_APART, ALLOCATOR) >= 600_000


def test_the_free_end_of_the_heap_is_given_back() -> None:
    assert told(END_NOT_GIVEN_BACK, {}) > 1_000_000, "kept unless told otherwise, or this test sees nothing"
    assert told(END_NOT_GIVEN_BACK, ALLOCATOR) <= 32_768 + 4_096
    threshold_alone = ALLOCATOR | {"GLIBC_TUNABLES": ALLOCATOR["GLIBC_TUNABLES"].rpartition(":")[0]}
    assert told(END_NOT_GIVEN_BACK, threshold_alone) > 100_000, "128 KiB stay, whatever the threshold says"
