"""A cage for the process that decodes: limits, and a list of the system calls that decoding takes. There is no way out of it again.

The kernel refuses all other calls with EPERM, so code that asks for something it could do without goes on without it. No file can be
opened: the video and the line to the worker, open before, are all there is. No program is started, no process made, no socket; no
signal reaches anybody else; no memory becomes executable.

What it does not protect from: a hole in the kernel behind the calls that are left; code that has taken the decoder over and lies about what
the video shows, or never ends. So whoever reads its answers believes none of them, and must be ready to kill it.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import resource
import signal
from typing import Any, Final

LIBRARY: Final = "libseccomp.so.2"
"""Debian's apt depends on it, so every Debian and Ubuntu has it, and the images made of them. It knows each architecture's numbers."""

ALLOWED: Final = (
    # what is open already
    *("read", "readv", "pread64", "write", "writev", "lseek", "close", "fstat", "dup", "poll", "ppoll", "select", "pselect6"),
    # memory
    *("brk", "munmap", "mremap", "madvise", "membarrier"),
    # threads of its own
    *("futex", "set_robust_list", "rseq", "set_tid_address", "gettid", "getpid", "exit", "exit_group"),
    *("sched_yield", "sched_getaffinity", "sched_getparam", "sched_getscheduler"),
    # signals to itself, as abort() sends
    *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "restart_syscall"),
    # time and chance
    *("clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time", "times", "getrandom", "getrusage"),
)
"""Whatever their arguments; a few more are allowed by their arguments in `confine`."""

DESCRIPTOR_COMMANDS: Final = (fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_DUPFD_CLOEXEC)
"""What `fcntl` may do. Others reach beyond this process: F_SETOWN, F_SETSIG and O_ASYNC together have the kernel send any signal, SIGKILL
too, to whomever the pipe's owner is said to be, as soon as the worker reads from it."""

OPEN_FILES: Final = 16

# From linux/seccomp.h, linux/sched.h, linux/fcntl.h, linux/prctl.h and seccomp.h
ALLOW: Final = 0x7FFF_0000
REFUSE: Final = 0x0005_0000
KILL_PROCESS: Final = 0x8000_0000
ON_BAD_ARCHITECTURE: Final = 2
ON_ALL_THREADS: Final = 4
EQUAL: Final = 4
MASKED_EQUAL: Final = 7
CLONE_THREAD: Final = 0x0001_0000
AT_EMPTY_PATH: Final = 0x1000
PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_SET_NAME: Final = 15


class NoSandbox(Exception):
    """This machine's kernel or libraries cannot confine a process."""


class Argument(ctypes.Structure):
    """libseccomp's `scmp_arg_cmp`: one condition on one argument of a system call."""

    _fields_ = (("position", ctypes.c_uint), ("operator", ctypes.c_int), ("first", ctypes.c_uint64), ("second", ctypes.c_uint64))

    @classmethod
    def equals(cls, position: int, value: int) -> "Argument":
        return cls(position, EQUAL, value, 0)

    @classmethod
    def has_bits(cls, position: int, mask: int, *, as_in: int) -> "Argument":
        return cls(position, MASKED_EQUAL, mask, as_in)


class Filter:
    """A list of allowed system calls, by libseccomp. Raises NoSandbox when that is not there or not able."""

    def __init__(self, *, otherwise: int) -> None:
        try:
            self._library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise NoSandbox(f"{LIBRARY} cannot be loaded") from error
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._library.seccomp_init(ctypes.c_uint32(otherwise)))
        if not self._context:
            raise NoSandbox("libseccomp makes no filter")

    def set(self, attribute: int, value: int) -> None:
        self._call("seccomp_attr_set", ctypes.c_int(attribute), ctypes.c_uint32(value))

    def add(self, action: int, call: str, *conditions: Argument) -> None:
        """A system call that this architecture does not have is passed over."""
        number = ctypes.c_int(self._library.seccomp_syscall_resolve_name(call.encode()))
        arguments = (Argument * len(conditions))(*conditions)
        self._call("seccomp_rule_add_array", ctypes.c_uint32(action), number, ctypes.c_uint(len(conditions)), arguments)

    def load(self) -> None:
        """From here on it holds, for this process and all that it starts."""
        self._call("seccomp_load")

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(self._context, *arguments)
        if status < 0:
            raise NoSandbox(f"{name}: {os.strerror(-status)}")


def die_with(parent: int) -> None:
    """Have this process killed as soon as the thread that started it ends. `parent`: that thread's process."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it had ended before this was asked for
        os.kill(os.getpid(), signal.SIGKILL)


def limit(*, memory_bytes: int, cpu_s: int) -> None:
    """Memory beyond `memory_bytes` of address space is refused; SIGXCPU ends the process after `cpu_s` of CPU time; no file grows."""
    for what, most in {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
    }.items():
        resource.setrlimit(what, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))


def confine() -> None:
    """Leave this process the system calls that decoding takes, on all its threads, for good. Raises NoSandbox."""
    _prctl(PR_SET_DUMPABLE, 0)
    calls = Filter(otherwise=REFUSE | errno.EPERM)
    calls.set(ON_BAD_ARCHITECTURE, KILL_PROCESS)
    calls.set(ON_ALL_THREADS, 1)
    for name in ALLOWED:
        calls.add(ALLOW, name)
    for name in ("fcntl", "fcntl64"):
        for command in DESCRIPTOR_COMMANDS:
            calls.add(ALLOW, name, Argument.equals(1, command))
    calls.add(ALLOW, "clone", Argument.has_bits(0, CLONE_THREAD, as_in=CLONE_THREAD))
    calls.add(REFUSE | errno.ENOSYS, "clone3")  # its flags lie in memory, out of a filter's sight; glibc takes clone then
    for name in ("mmap", "mprotect"):
        calls.add(ALLOW, name, Argument.has_bits(2, mmap.PROT_EXEC, as_in=0))
    for name in ("newfstatat", "fstatat64"):
        calls.add(ALLOW, name, Argument.equals(3, AT_EMPTY_PATH))  # how glibc asks for the size of an open file
    calls.add(ALLOW, "tgkill", Argument.equals(0, os.getpid()))
    calls.add(ALLOW, "prctl", Argument.equals(0, PR_SET_NAME))
    calls.load()


def _prctl(option: int, value: int) -> None:
    """Best effort: what it asks for is a second wall. Only Linux has it."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))
