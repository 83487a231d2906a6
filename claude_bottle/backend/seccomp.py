"""The bottle's system call filter, as a classic BPF program. Pure.

Theory: an agent's tools need nearly every ordinary call, so this is a deny list in a closed frame.
A foreign architecture or an unknown number gets ENOSYS: what is newer than this table is refused.
Calls that make namespaces, mounts, keys, modules or BPF, or that reach rarely audited kernel surface, get
EPERM; where programs know how to do without (clone3, io_uring) they get ENOSYS. Sockets exist only
of the local, IP and route kinds, as AF_VSOCK ignores network namespaces and would be a way out; pairs of
sockets only of the local kind, as asking for another loads and enters that family's code all the same.
No ioctl types into a terminal.

Sources: seccomp(2), linux/audit.h, asm/unistd_64.h, asm-generic/unistd.h.
"""

from __future__ import annotations

import struct

_LOAD, _IF_EQUAL, _IF_GREATER_EQUAL, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_EPERM, _ENOSYS, _EPROTONOSUPPORT, _EAFNOSUPPORT = 1, 38, 93, 97
_NUMBER, _ARCHITECTURE = 0, 4  # in struct seccomp_data
_ARGUMENT_0, _ARGUMENT_1, _ARGUMENT_2 = 16, 24, 32  # their low halves

_AUDIT_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_OCI_ARCHITECTURES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}
_LOW_HALF = 0xFFFFFFFF
_FIRST_UNKNOWN = 463  # mseal is 462; both tables are one from 424 on
_NEWER = (
    "setxattrat getxattrat listxattrat removexattrat open_tree_attr file_getattr file_setattr"  # from 463
)
_NEW_NAMESPACE = 0x7E020000  # every CLONE_NEW* flag that clone(2) takes
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_NETLINK_ROUTE = 0

_FORBIDDEN = """
acct 163 89               add_key 248 217           adjtimex 159 171          bpf 321 280
chroot 161 51             clock_adjtime 305 266     clock_settime 227 112     create_module 174 -
delete_module 176 106     fanotify_init 300 262     finit_module 313 273      fsconfig 431 431
fsmount 432 432           fsopen 430 430            fspick 433 433            get_kernel_syms 177 -
init_module 175 105       ioperm 173 -              iopl 172 -                kexec_file_load 320 294
kexec_load 246 104        keyctl 250 219            lookup_dcookie 212 18     modify_ldt 154 -
mount 165 40              mount_setattr 442 442     move_mount 429 429        move_pages 279 239
name_to_handle_at 303 264 nfsservctl 180 42         open_by_handle_at 304 265 open_tree 428 428
perf_event_open 298 241   pivot_root 155 41         query_module 178 -        quotactl 179 60
quotactl_fd 443 443       reboot 169 142            request_key 249 218       setdomainname 171 162
sethostname 170 161       setns 308 268             settimeofday 164 170      swapoff 168 225
swapon 167 224            _sysctl 156 -             sysfs 139 -               syslog 103 116
umount2 166 39            unshare 272 97            uselib 134 -              userfaultfd 323 282
ustat 136 -               vhangup 153 58            statmount 457 457         listmount 458 458
"""
_ABSENT = """
clone3 435 435            io_uring_setup 425 425    io_uring_enter 426 426    io_uring_register 427 427
"""
_CLONE = {"x86_64": 56, "aarch64": 220}
_IOCTL = {"x86_64": 16, "aarch64": 29}
_SOCKET = {"x86_64": 41, "aarch64": 198}
_SOCKETPAIR = {"x86_64": 53, "aarch64": 199}


class UnsupportedMachine(ValueError):
    """There is no filter for this processor, so there can be no bottle."""


def denied_calls(machine: str) -> dict[str, tuple[int, int]]:
    """name -> (number on `machine`, errno it answers)."""
    column = tuple(_AUDIT_ARCHITECTURES).index(machine)
    found: dict[str, tuple[int, int]] = {}
    for table, errno in ((_FORBIDDEN, _EPERM), (_ABSENT, _ENOSYS)):
        words = table.split()
        for start in range(0, len(words), 3):
            number = words[start + 1 + column]
            if number != "-":
                found[words[start]] = (int(number), errno)
    return found


def compile_filter(machine: str) -> bytes:
    """The program for `machine` (as `os.uname().machine` has it). Raises `UnsupportedMachine`."""
    if machine not in _AUDIT_ARCHITECTURES:
        raise UnsupportedMachine(f"no system call filter for processor {machine!r}")
    program = [
        _statement(_LOAD, _ARCHITECTURE),
        *_unless(_IF_EQUAL, _AUDIT_ARCHITECTURES[machine], _errno(_ENOSYS)),
        _statement(_LOAD, _NUMBER),
        *_when(_IF_GREATER_EQUAL, _FIRST_UNKNOWN, _errno(_ENOSYS)),
    ]
    for number, errno in denied_calls(machine).values():
        program += _when(_IF_EQUAL, number, _errno(errno))
    program += _judged(_CLONE[machine], _clone_rules())
    program += _judged(_IOCTL[machine], _ioctl_rules())
    program += _judged(_SOCKET[machine], _socket_rules())
    program += _judged(_SOCKETPAIR[machine], _family_rules(_AF_UNIX))
    program.append(_statement(_RETURN, _ALLOW))
    return b"".join(program)


def container_profile(machine: str, *, absent: bool = True) -> dict[str, object]:
    """The same rules in the words of the OCI runtime specification (config-linux.md, Seccomp).

    Calls newer than the table can only be refused by name; engines pass over a name that they do not know.
    Without `absent`, for an engine that knows no error but EPERM, what shall answer ENOSYS is left to the
    filter that programs get from inside.
    """
    if machine not in _AUDIT_ARCHITECTURES:
        raise UnsupportedMachine(f"no system call filter for processor {machine!r}")
    names: dict[int, list[str]] = {_EPERM: [], _ENOSYS: _NEWER.split()}
    for name, (_, errno) in denied_calls(machine).items():
        names[errno].append(name)
    rules = [_oci(found, errno) for errno, found in names.items() if absent or errno != _ENOSYS]
    rules += [_oci(["clone"], _EPERM, _same(0, bit, bit)) for bit in _bits(_NEW_NAMESPACE)]
    rules += [_oci(["ioctl"], _EPERM, _same(1, _LOW_HALF, request)) for request in (_TIOCSTI, _TIOCLINUX)]
    refused = set(range(_AF_NETLINK)) - {_AF_UNIX, _AF_INET, _AF_INET6}
    rules += [_oci(["socket"], _EAFNOSUPPORT, _same(0, _LOW_HALF, family)) for family in sorted(refused)]
    beyond = {"index": 0, "value": _AF_NETLINK, "op": "SCMP_CMP_GT"}
    rules.append(_oci(["socket"], _EAFNOSUPPORT, beyond))
    other_protocol = {"index": 2, "value": _NETLINK_ROUTE, "op": "SCMP_CMP_NE"}
    rules.append(_oci(["socket"], _EPROTONOSUPPORT, _same(0, _LOW_HALF, _AF_NETLINK), other_protocol))
    rules.append(_oci(["socketpair"], _EAFNOSUPPORT, {"index": 0, "value": _AF_UNIX, "op": "SCMP_CMP_NE"}))
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": [_OCI_ARCHITECTURES[machine]],
        "syscalls": rules,
    }


def _oci(names: list[str], errno: int, *arguments: dict[str, object]) -> dict[str, object]:
    return {"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno, "args": list(arguments)}


def _same(index: int, mask: int, value: int) -> dict[str, object]:
    return {"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}


def _bits(mask: int) -> list[int]:
    return [1 << number for number in range(32) if mask & 1 << number]


def _clone_rules() -> list[bytes]:
    return [_statement(_LOAD, _ARGUMENT_0), *_when(_IF_ANY_BIT, _NEW_NAMESPACE, _errno(_EPERM))]


def _ioctl_rules() -> list[bytes]:
    rules = [_statement(_LOAD, _ARGUMENT_1)]
    for request in (_TIOCSTI, _TIOCLINUX):
        rules += _when(_IF_EQUAL, request, _errno(_EPERM))
    return rules


def _socket_rules() -> list[bytes]:
    route_only = [
        _statement(_LOAD, _ARGUMENT_2),
        *_when(_IF_EQUAL, _NETLINK_ROUTE, _statement(_RETURN, _ALLOW)),
        _errno(_EPROTONOSUPPORT),
    ]
    rules = _family_rules(_AF_UNIX, _AF_INET, _AF_INET6)
    return [*rules[:-1], _jump(_IF_EQUAL, _AF_NETLINK, 0, len(route_only)), *route_only, rules[-1]]


def _family_rules(*families: int) -> list[bytes]:
    """Allows these families; the last instruction refuses all others."""
    rules = [_statement(_LOAD, _ARGUMENT_0)]
    for family in families:
        rules += _when(_IF_EQUAL, family, _statement(_RETURN, _ALLOW))
    return [*rules, _errno(_EAFNOSUPPORT)]


def _judged(number: int, rules: list[bytes]) -> list[bytes]:
    """`rules` for one call, then allow; any other call jumps over them."""
    block = [*rules, _statement(_RETURN, _ALLOW)]
    return [_jump(_IF_EQUAL, number, 0, len(block)), *block]


def _when(test: int, value: int, then: bytes) -> list[bytes]:
    return [_jump(test, value, 0, 1), then]


def _unless(test: int, value: int, then: bytes) -> list[bytes]:
    return [_jump(test, value, 1, 0), then]


def _errno(code: int) -> bytes:
    return _statement(_RETURN, _ERRNO | code)


def _statement(code: int, operand: int) -> bytes:
    return struct.pack("<HBBI", code, 0, 0, operand)


def _jump(code: int, operand: int, if_true: int, if_false: int) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, operand)
