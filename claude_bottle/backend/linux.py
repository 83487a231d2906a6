"""The Linux calls that Python's standard library does not offer, each as a thin function.

Invariant: a call that the kernel refuses raises `OSError` with the call's name; nothing is ignored.
Sources: the Linux manual pages of the calls named in each function.
"""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_NOSUID = 0x2
MS_NODEV = 0x4

NS_GET_USERNS = 0xB701  # ioctl_ns(2)

_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442  # the same on every architecture
_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_MOUNT_ATTR_IDMAP = 0x00100000

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NAME, _PR_SET_SECCOMP = 1, 4, 15, 22
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 24, 38, 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_SECCOMP_MODE_FILTER = 2
_LINUX_CAPABILITY_VERSION_3 = 0x20080522
_EINVAL = 22

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, call: str, path: str | None = None) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{call}: {os.strerror(code)}", path)
    return result


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    _check(_libc.setns(fd, kind), "setns")


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    result = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        os.fsencode(data) if data else None,
    )
    _check(result, "mount", target)


def clone_mount(path: str) -> int:
    """A detached copy of what is mounted at `path`, all below it included: open_tree(2)."""
    flags = _OPEN_TREE_CLONE | _AT_RECURSIVE | os.O_CLOEXEC
    return _check(_libc.syscall(_OPEN_TREE, _AT_FDCWD, os.fsencode(path), flags), "open_tree", path)


def attach_mount(tree: int, target: str) -> None:
    """Puts a detached mount at `target`: move_mount(2)."""
    result = _libc.syscall(_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)
    _check(result, "move_mount", target)


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def idmap_mount(tree: int, userns: int) -> None:
    """Shows the files of a detached mount under the ids that `userns` maps: mount_setattr(2)."""
    attr = _MountAttr(attr_set=_MOUNT_ATTR_IDMAP, userns_fd=userns)
    flags = _AT_EMPTY_PATH | _AT_RECURSIVE
    result = _libc.syscall(_MOUNT_SETATTR, tree, b"", flags, ctypes.byref(attr), ctypes.sizeof(attr))
    _check(result, "mount_setattr")


def _prctl(option: int, *arguments: int, call: str) -> None:
    padded = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    _check(_libc.prctl(option, *padded), call)


def set_dumpable(dumpable: bool) -> None:
    """Whether others of the same user may trace this process or read its /proc files; exec resets it."""
    _prctl(_PR_SET_DUMPABLE, int(dumpable), call="prctl(PR_SET_DUMPABLE)")


def die_with_parent(signal: int = 9) -> None:
    _prctl(_PR_SET_PDEATHSIG, signal, call="prctl(PR_SET_PDEATHSIG)")


def set_process_name(name: str) -> None:
    text = ctypes.create_string_buffer(name.encode()[:15])
    _check(_libc.prctl(_PR_SET_NAME, text, 0, 0, 0), "prctl(PR_SET_NAME)")


def forget_arguments(title: str) -> None:
    """Overwrites this process's command line, which /proc shows to everybody: proc_pid_cmdline(5)."""
    start, end = _arguments()
    ctypes.memmove(start, title.encode()[: end - start - 1].ljust(end - start, b"\0"), end - start)


def _arguments() -> tuple[int, int]:
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end: proc_pid_stat(5)
    if 0 < start < end:
        return start, end
    with open("/proc/self/cmdline", "rb") as file:  # gVisor does not say where it is, but the C library does
        line = file.read()
    first = ctypes.c_void_p.in_dll(_libc, "program_invocation_name").value
    if first is None or not line or ctypes.string_at(first, len(line)) != line:
        raise OSError("nothing says where this process's command line is")
    return first, first + len(line)


def no_new_privileges() -> None:
    _prctl(_PR_SET_NO_NEW_PRIVS, 1, call="prctl(PR_SET_NO_NEW_PRIVS)")


def bound_capabilities() -> None:
    """Empties the bounding and the ambient set. Needs CAP_SETPCAP in the present user namespace."""
    for capability in range(64):
        try:
            _prctl(_PR_CAPBSET_DROP, capability, call="prctl(PR_CAPBSET_DROP)")
        except OSError as error:
            if error.errno == _EINVAL and capability > 0:  # past the kernel's last capability
                break
            raise
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, call="prctl(PR_CAP_AMBIENT)")


def drop_capabilities() -> None:
    """Empties the effective, permitted and inheritable sets: capset(2)."""
    header = (ctypes.c_uint32 * 2)(_LINUX_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    _check(_libc.capset(header, data), "capset")


class _SockFprog(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def install_seccomp(program: bytes) -> None:
    """Installs a compiled filter (8 bytes an instruction) for good: seccomp(2)."""
    buffer = ctypes.create_string_buffer(program, len(program))
    fprog = _SockFprog(len(program) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    result = _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(fprog), 0, 0)
    _check(result, "prctl(PR_SET_SECCOMP)")


def close_from(lowest: int) -> None:
    os.closerange(lowest, os.sysconf("SC_OPEN_MAX"))
