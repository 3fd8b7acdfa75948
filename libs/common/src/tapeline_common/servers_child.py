"""The last step before a server runs: become the child that the launcher asked for, then be replaced by the server.

Run as a script by `servers.spawn`, never imported. It is a program of its own because the launcher has threads: code
run between fork and exec of a threaded process may deadlock, a fresh interpreter (10 ms without `site`) may not.
Therefore it uses the standard library only and reads nothing but its arguments.

Arguments: the signal to get when the launcher dies, the launcher's pid, uid, gid (-1, -1: stay who we are), command...
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(death_signal: int, parent: int) -> None:
    """Ask Linux for `death_signal` as soon as the launcher is gone; elsewhere the next start finds the leftover."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) was refused")
    if os.getppid() != parent:
        # It died before we asked, so the signal will never come.
        sys.exit(f"the launcher (pid {parent}) is gone")


def main(arguments: list[str]) -> None:
    death_signal, parent, uid, gid = (int(argument) for argument in arguments[:4])
    command = arguments[4:]
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    # After setuid, which clears the death signal.
    die_with_parent(death_signal, parent)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
