"""From inside the cage: everything that decoding does not take is refused, and every codec still decodes."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from services.preprocess.decode.decoding import decoded
from services.preprocess.decode.limits import Limits
from services.preprocess.decode.process import ENVIRONMENT

ROOT = Path(__file__).parents[3]

PRELUDE = """
import ctypes, errno, fcntl, importlib, json, mmap, os, pkgutil, platform, resource, signal, socket, subprocess, sys, threading, time
sys.path.insert(0, sys.argv[1])
from services.preprocess.decode import sandbox

libc = ctypes.CDLL(None, use_errno=True)

def call(name, *arguments):
    # libseccomp knows the number on every architecture
    number = ctypes.CDLL(sandbox.LIBRARY).seccomp_syscall_resolve_name(name.encode())
    ctypes.set_errno(0)
    return libc.syscall(ctypes.c_long(number), *(ctypes.c_long(argument) for argument in arguments)), ctypes.get_errno()
"""

ESCAPES = """
# from linux/fcntl.h and asm/ioctls.h
F_SETOWN_EX, F_OWNER_PID, FIOASYNC, FIOSETOWN, SIOCSPGRP = 15, 1, 0x5452, 0x8901, 0x8902
buffer = ctypes.create_string_buffer(256)
one, parent = ctypes.c_int(1), ctypes.c_int(os.getppid())
owner = (ctypes.c_int * 2)(F_OWNER_PID, os.getppid())
path = ctypes.addressof(ctypes.create_string_buffer(b"/escaped"))
attempts = {
    "socket inet": lambda: call("socket", socket.AF_INET, socket.SOCK_STREAM, 0),
    "socket unix": lambda: call("socket", socket.AF_UNIX, socket.SOCK_STREAM, 0),
    "socket netlink": lambda: call("socket", socket.AF_NETLINK, socket.SOCK_RAW, 0),
    "socketpair": lambda: call("socketpair", socket.AF_UNIX, socket.SOCK_STREAM, 0, ctypes.addressof(buffer)),
    "connect": lambda: call("connect", 0, ctypes.addressof(buffer), 16),
    "bind": lambda: call("bind", 0, ctypes.addressof(buffer), 16),
    "fork": lambda: call("fork"),
    "vfork": lambda: call("vfork"),
    "clone": lambda: call("clone", signal.SIGCHLD, 0, 0, 0, 0),
    "clone3": lambda: call("clone3", ctypes.addressof(buffer), 64),
    "execve": lambda: call("execve", path, 0, 0),
    "execveat": lambda: call("execveat", 0, path, 0, 0, 0x1000),
    "ptrace the parent": lambda: call("ptrace", 16, os.getppid(), 0, 0),
    "read the parent": lambda: call("process_vm_readv", 1, ctypes.addressof(buffer), 1, ctypes.addressof(buffer), 1, 0),
    "kill the parent": lambda: call("kill", 1, 0),
    "kill another by thread": lambda: call("tgkill", 1, 1, 0),
    "kill by descriptor": lambda: call("pidfd_open", 1, 0),
    "open": lambda: call("open", path, os.O_RDONLY, 0),
    "openat": lambda: call("openat", -100, path, os.O_CREAT | os.O_WRONLY, 0o600),
    "openat2": lambda: call("openat2", -100, path, ctypes.addressof(buffer), 24),
    "creat": lambda: call("creat", path, 0o600),
    "memfd": lambda: call("memfd_create", path, 0),
    "unlink": lambda: call("unlink", path),
    "unlinkat": lambda: call("unlinkat", -100, path, 0),
    "rename": lambda: call("renameat2", -100, path, -100, path, 0),
    "link": lambda: call("linkat", -100, path, -100, path, 0),
    "symlink": lambda: call("symlinkat", path, -100, path),
    "mkdir": lambda: call("mkdirat", -100, path, 0o700),
    "chmod": lambda: call("fchmodat", -100, path, 0o777),
    "truncate": lambda: call("ftruncate", 0, 0),
    "stat": lambda: call("newfstatat", -100, path, ctypes.addressof(buffer), 0),
    "chdir": lambda: call("chdir", path),
    "chroot": lambda: call("chroot", path),
    "mount": lambda: call("mount", path, path, path, 0, 0),
    "unshare": lambda: call("unshare", 0x10000000),
    "setns": lambda: call("setns", 0, 0),
    "bpf": lambda: call("bpf", 0, ctypes.addressof(buffer), 64),
    "io_uring": lambda: call("io_uring_setup", 8, ctypes.addressof(buffer)),
    "userfaultfd": lambda: call("userfaultfd", 0),
    "perf": lambda: call("perf_event_open", ctypes.addressof(buffer), 0, -1, -1, 0),
    "keyring": lambda: call("keyctl", 0, 0, 0, 0, 0),
    "module": lambda: call("init_module", ctypes.addressof(buffer), 0, path),
    "raise a limit": lambda: call("prlimit64", 0, resource.RLIMIT_FSIZE, ctypes.addressof(buffer), 0),
    # the kernel's own signals: to the owner of a descriptor, when it can be read or written
    "own for another": lambda: call("fcntl", 0, fcntl.F_SETOWN, os.getppid()),
    "own for another, in memory": lambda: call("fcntl", 0, F_SETOWN_EX, ctypes.addressof(owner)),
    "any signal": lambda: call("fcntl", 0, fcntl.F_SETSIG, signal.SIGKILL),
    "signal when ready": lambda: call("fcntl", 0, fcntl.F_SETFL, os.O_ASYNC),
    "signal when ready, by ioctl": lambda: call("ioctl", 0, FIOASYNC, ctypes.addressof(one)),
    "own for another, by ioctl": lambda: call("ioctl", 0, FIOSETOWN, ctypes.addressof(parent)),
    "own for another, by a socket's ioctl": lambda: call("ioctl", 0, SIOCSPGRP, ctypes.addressof(parent)),
    "signal on a change": lambda: call("fcntl", 0, fcntl.F_NOTIFY, 1),
    "a lease": lambda: call("fcntl", 0, fcntl.F_SETLEASE, 0),
    "a larger pipe": lambda: call("fcntl", 1, fcntl.F_SETPIPE_SZ, 1 << 20),
    "outlive the parent": lambda: call("prctl", 1, 0, 0, 0, 0),
    "outlive the parent's threads": lambda: call("prctl", 36, 1, 0, 0, 0),
    "become dumpable": lambda: call("prctl", 4, 1, 0, 0, 0),
    "another filter": lambda: call("seccomp", 1, 0, 0),
    "ioctl": lambda: call("ioctl", 0, 0x5412, ctypes.addressof(buffer)),
    "executable memory": lambda: call("mmap", 0, 4096, mmap.PROT_READ | mmap.PROT_EXEC, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0),
    "writable code": lambda: call("mprotect", ctypes.addressof(buffer) & ~4095, 4096, mmap.PROT_READ | mmap.PROT_EXEC),
    "time": lambda: call("clock_settime", 0, ctypes.addressof(buffer)),
    "reboot": lambda: call("reboot", 0, 0, 0, 0),
}
sandbox.limit(memory_bytes=2 << 30, cpu_s=60)
sandbox.confine()
thread = threading.Thread(target=lambda: found.update({name: attempt() for name, attempt in attempts.items()}))
found = {}
thread.start()  # threads must work, and be caged, too
thread.join()
python = {}
for name, attempt in {
    "environ of init": lambda: open("/proc/1/environ").read(),
    "own environ": lambda: open("/proc/self/environ").read(),
    "program": lambda: subprocess.run(["/bin/true"]),
    "server": lambda: socket.socket(),
    "import": lambda: importlib.import_module("xml.dom.minidom"),
}.items():
    try:
        python[name] = f"allowed: {attempt()!r}"
    except Exception as error:
        python[name] = type(error).__name__
os.write(1, json.dumps({"calls": found, "python": python, "environment": dict(os.environ), "threads": thread.is_alive()}).encode())
"""


def inside(script: str) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-I", "-c", PRELUDE + script, str(ROOT)]
    return subprocess.run(command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, cwd="/", timeout=60, check=False)


@pytest.fixture(scope="module")
def escapes() -> dict:
    done = inside(ESCAPES)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def test_every_way_out_is_refused(escapes):
    refused = {name: errno for name, (result, errno) in escapes["calls"].items() if result == -1}
    assert refused.keys() == escapes["calls"].keys()
    assert {name for name, errno in refused.items() if errno != 1} == {"clone3"}  # glibc must be told that there is none


def test_python_is_refused_the_same(escapes):
    assert escapes["python"] == {
        "environ of init": "PermissionError",
        "own environ": "PermissionError",
        "program": "PermissionError",
        "server": "PermissionError",
        "import": "ModuleNotFoundError",
    }


def test_no_secret_comes_along(escapes, monkeypatch):
    assert escapes["environment"].keys() <= {*ENVIRONMENT, "LC_CTYPE"}  # Python itself sets the last


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {}),
        ("b.mp4", "libx265", {"x265-params": "log-level=none"}),
        ("c.webm", "libvpx-vp9", {}),
        ("d.mp4", "libsvtav1", {"preset": "8", "crf": "5"}),
        ("e.avi", "mpeg4", {}),
        ("f.mov", "mjpeg", {}),
        ("g.mkv", "ffv1", {}),
    ],
)
def test_every_codec_still_decodes(clips, number_of, coded_picture, name, codec, options):
    if codec == "libsvtav1":  # takes no picture of fewer than 64 rows
        path = clips.write(name, codec=codec, frames=10, picture=lambda k: np.tile(coded_picture(k), (4, 1, 1)), **options)
    else:
        path = clips.write(name, codec=codec, frames=10, **options)
    with decoded(path, sample_fps=60, limits=Limits(threads=2)) as video:
        numbers = [number_of(frame.rgb_hwc[:32]) for frame in video.frames()]
    assert numbers == list(range(10))


def test_a_process_dies_with_the_thread_that_started_it():
    """Also when it is told to before it could ask for it."""
    done = inside("sandbox.die_with(os.getpid())")
    assert done.returncode == -signal.SIGKILL


def test_memory_ends():
    script = "sandbox.limit(memory_bytes=1 << 30, cpu_s=60)\ntry: bytes(1 << 31)\nexcept MemoryError: os.write(1, b'refused')"
    assert inside(script).stdout == b"refused"


def test_descriptors_end():
    done = inside("sandbox.limit(memory_bytes=1 << 30, cpu_s=60)\nfor _ in range(20): os.dup(0)")
    assert b"Too many open files" in done.stderr


def test_no_file_grows(tmp_path):
    path = tmp_path / "file"
    opened = f"file = os.open({str(path)!r}, os.O_CREAT | os.O_WRONLY)"
    done = inside(f"{opened}\nsandbox.limit(memory_bytes=1 << 30, cpu_s=60)\nos.write(file, b'x')")
    assert b"File too large" in done.stderr
    assert path.stat().st_size == 0


def test_cpu_time_ends():
    done = inside("sandbox.limit(memory_bytes=1 << 30, cpu_s=1)\nwhile True: pass")
    assert done.returncode == -signal.SIGXCPU


def test_without_the_library_there_is_no_sandbox():
    done = inside("sandbox.LIBRARY = 'libnone.so.2'\nsandbox.confine()")
    assert b"NoSandbox: libnone.so.2 cannot be loaded" in done.stderr
