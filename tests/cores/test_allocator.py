"""What services tell the C library to do with freed memory, asked of the C library itself."""

import ctypes
import os
import subprocess
import sys

import pytest

from tapeline_common.embedded import ALLOCATOR

FREED = """
import ctypes

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
                "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype, libc.malloc.restype, libc.free.argtypes = Info, ctypes.c_void_p, [ctypes.c_void_p]
before = libc.mallinfo2().uordblks
blocks = [libc.malloc(size) for size in range(520, 1020, 16) for _ in range(7)]
for block in blocks:
    libc.free(block)
del blocks
print(libc.mallinfo2().uordblks - before)
"""
"""Prints how much of what it freed the C library still counts as used: it is kept for the thread that had it."""


def kept_bytes(variables: dict[str, str]) -> int:
    others = {name: value for name, value in os.environ.items() if name not in ALLOCATOR}
    done = subprocess.run(
        [sys.executable, "-c", FREED], env=others | variables, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="only glibc since 2.33 gives this account")
def test_freed_blocks_are_not_kept_for_their_thread_size_by_size() -> None:
    assert kept_bytes({}) > 100_000, "kept unless told otherwise, or this test sees nothing"
    assert kept_bytes(ALLOCATOR) < 10_000
