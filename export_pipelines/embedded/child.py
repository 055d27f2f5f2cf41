"""Runs as a script between the launcher and PostgreSQL: gives up root, ties its life to the launcher, execs.

A process of its own instead of ``preexec_fn``, because Python code between fork and exec can
deadlock in a program that has threads. Imports nothing but the standard library and is called by path.

Arguments: pid of the launcher, uid, gid, program, its arguments.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def become(launcher_pid: int, uid: int, gid: int, command: list[str]) -> None:
    """Replaces this process by ``command``; returns only if the launcher is already gone."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    os.umask(0o077)
    # A launcher put in the background by a script ignores SIGINT, and an ignored signal survives exec.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        # After setuid, because the kernel forgets it whenever credentials change.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGINT))
    # A launcher that died before prctl sends no signal any more.
    if os.getppid() == launcher_pid:
        os.execv(command[0], command)  # noqa: S606 - the launcher's own command


if __name__ == "__main__":
    become(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
    sys.exit("The launcher ended before PostgreSQL was started.")
