"""Starts one program and says what it took: ``python -I -S launcher.py DESCRIPTOR PROGRAM ARGUMENT...``.

Until a new process has loaded its program it is a copy of its parent, and the system's figure of its peak memory is
never below the parent's. So a program is weighed by a parent that is smaller than any program: this script imports
nothing that is not loaded anyway, and writes one line to the descriptor: exit code, seconds, peak memory in bytes.

The peak is that of the program or of the largest process it started and waited for. A request to end is left to the
program, which gets it too, being in the same group.
"""

import os
import signal
import sys
import time


def main(descriptor: int, command: list[str]) -> None:
    ends = [signal.SIGINT, signal.SIGTERM]
    for end in ends:
        signal.signal(end, signal.SIG_IGN)
    os.set_inheritable(descriptor, False)
    started = time.perf_counter()
    process = os.posix_spawn(command[0], command, os.environ, setsigdef=ends)
    _, status, usage = os.wait4(process, 0)
    elapsed_s = time.perf_counter() - started
    peak_bytes = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    os.write(descriptor, f"{os.waitstatus_to_exitcode(status)} {elapsed_s} {peak_bytes}\n".encode())


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
