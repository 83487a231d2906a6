"""The kernel's own doors: namespaces, mounts, tracing, privileges, other processors."""

from __future__ import annotations

import os
import signal

import pytest

from claude_bottle.operations.launch import Launched
from tests.escape.conftest import Attack
from tests.support.bottles import shell_inside

REFUSED = {"EPERM", "ENOSYS", "EACCES", "EINVAL"}  # EINVAL: there is no such user or group


@pytest.mark.parametrize(
    ("name", "call"),
    [
        *[
            (f"unshare-{name}", f"called(libc.unshare, {flag})")
            for name, flag in (
                *(("mnt", 0x00020000), ("cgroup", 0x02000000), ("uts", 0x04000000), ("ipc", 0x08000000)),
                *(("user", 0x10000000), ("pid", 0x20000000), ("net", 0x40000000), ("user-mnt", 0x10020000)),
            )
        ],
        ("setns", "called(libc.setns, os.open('/proc/self/ns/mnt', os.O_RDONLY), 0)"),
        ("setns-user", "called(libc.setns, os.open('/proc/self/ns/user', os.O_RDONLY), 0x10000000)"),
        ("setns-pidfd", "called(libc.setns, os.pidfd_open(os.getpid()), 0x00020000)"),
        ("clone-user", "numbered(56, 220, 0x10000000 | 17, 0, 0, 0, 0)"),
        ("clone3", "numbered(435, 435, ctypes.create_string_buffer(88), 88)"),
        ("mount-tmpfs", "called(libc.mount, b'none', b'/tmp', b'tmpfs', 0, None)"),
        ("mount-proc", "called(libc.mount, b'proc', b'/tmp', b'proc', 0, None)"),
        ("mount-bind", "called(libc.mount, b'/usr', b'/tmp', None, 0x1000, None)"),
        ("remount-writable", "called(libc.mount, b'none', b'/', None, 0x20, None)"),
        ("umount", "called(libc.umount2, b'/proc', 2)"),
        ("pivot_root", "numbered(155, 41, b'/tmp', b'/tmp')"),
        ("chroot", "called(libc.chroot, b'/tmp')"),
        ("open_tree", "numbered(428, 428, -100, b'/', 1)"),
        ("move_mount", "numbered(429, 429, -100, b'/', -100, b'/tmp', 0)"),
        ("fsopen", "numbered(430, 430, b'tmpfs', 0)"),
        ("mount_setattr", "numbered(442, 442, -100, b'/', 0, ctypes.create_string_buffer(32), 32)"),
        ("keyctl", "numbered(250, 219, 0, -3, 0)"),
        ("add_key", "numbered(248, 217, b'user', b'x', b'y', 1, -3)"),
        ("request_key", "numbered(249, 218, b'user', b'x', None, 0)"),
        ("bpf", "numbered(321, 280, 0, ctypes.create_string_buffer(128), 128)"),
        ("io_uring", "numbered(425, 425, 8, ctypes.create_string_buffer(120))"),
        ("userfaultfd", "numbered(323, 282, 1)"),
        ("perf_event_open", "numbered(298, 241, ctypes.create_string_buffer(128), 0, -1, -1, 0)"),
        ("name_to_handle", "numbered(303, 264, -100, b'/', ctypes.create_string_buffer(136), ctypes.byref(ctypes.c_int()), 0)"),
        ("open_by_handle", "numbered(304, 265, 3, ctypes.create_string_buffer(136), 0)"),
        ("init_module", "numbered(175, 105, b'', 0, b'')"),
        ("finit_module", "numbered(313, 273, 0, b'', 0)"),
        ("kexec", "numbered(246, 104, 0, 0, None, 0)"),
        ("syslog", "numbered(103, 116, 3, ctypes.create_string_buffer(64), 64)"),
        ("settimeofday", "numbered(164, 170, ctypes.create_string_buffer(16), None)"),
        ("sethostname", "numbered(170, 161, b'x', 1)"),
        ("quotactl", "numbered(179, 60, 0, None, 0, None)"),
        ("fanotify", "numbered(300, 262, 0, 0)"),
        ("swapon", "numbered(167, 224, b'/tmp/x', 0)"),
        ("reboot", "numbered(169, 142, 0xfee1dead, 672274793, 0, None)"),
        ("vhangup", "numbered(153, 58)"),
        ("acct", "numbered(163, 89, b'/tmp/x')"),
        ("setuid", "called(libc.setuid, 0)"),
        ("setgid", "called(libc.setgid, 0)"),
        ("setgroups", "called(libc.setgroups, 1, ctypes.byref(ctypes.c_int(0)))"),
        *[
            (name, f"numbered({number}, {number}, ctypes.create_string_buffer(64), 64, 0, 0)")
            for name, number in (("statmount", 457), ("listmount", 458), ("listxattrat", 465))
        ],
        ("open_tree_attr", "numbered(467, 467, -100, b'/', 1, None, 0)"),
        ("file_getattr", "numbered(468, 468, -100, b'/', ctypes.create_string_buffer(64), 64, 0)"),
        ("a-call-of-the-future", "numbered(470, 470)"),
    ],
)  # fmt: skip
def test_the_kernel_says_no(attack: Attack, name: str, call: str) -> None:
    found = attack(f"report(outcome={call})")
    assert found["outcome"] in REFUSED, name


def test_it_has_no_privilege_and_cannot_get_one(attack: Attack) -> None:
    found = attack(
        """
        status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
        raised = called(libc.prctl, 47, 2, 12, 0, 0)   # PR_CAP_AMBIENT_RAISE, CAP_NET_ADMIN
        unset = called(libc.prctl, 38, 0, 0, 0, 0)     # PR_SET_NO_NEW_PRIVS
        loose = called(libc.prctl, 22, 0, 0, 0, 0)     # PR_SET_SECCOMP off
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        full = (ctypes.c_uint32 * 6)(*[0xffffffff] * 6)
        report(capabilities=[int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
               locks=[status["NoNewPrivs"].strip(), status["Seccomp"].strip()],
               groups=status["Groups"].split(), outcomes=[raised, unset, loose, called(libc.capset, header, full)])
        """
    )
    assert found["capabilities"] == [0] * 5
    assert found["locks"] == ["1", "2"]
    assert "DONE" not in found["outcomes"]
    assert "0" not in found["groups"]


def test_programs_that_change_the_user_gain_nothing(attack: Attack) -> None:
    found = attack(
        """
        import stat, subprocess
        bits, gained = [], {}
        for folder in ("/usr/bin", "/usr/sbin", "/usr/lib"):
            for top, _, files in os.walk(folder):
                for name in files:
                    path = os.path.join(top, name)
                    try:
                        mode = os.lstat(path).st_mode
                    except OSError:
                        continue
                    if mode & (stat.S_ISUID | stat.S_ISGID) and stat.S_ISREG(mode):
                        bits.append(path)
        for argv in (["su", "-c", "id -u"], ["sudo", "-n", "id", "-u"], ["pkexec", "id", "-u"],
                     ["mount", "-t", "tmpfs", "none", "/tmp"], ["newgrp", "root"], ["passwd", "-d", "root"],
                     ["unshare", "-r", "true"], ["chsh", "-s", "/bin/sh"], ["bwrap", "--unshare-user", "--ro-bind", "/", "/", "true"]):
            try:
                done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
                gained[argv[0]] = done.returncode == 0 or done.stdout.strip() == b"0"
            except FileNotFoundError:
                gained[argv[0]] = False
        report(bits=bits, gained=gained)
        """
    )
    assert not any(found["gained"].values()), found["gained"]


def test_a_setuid_file_of_its_own_gains_nothing(attack: Attack) -> None:
    found = attack(
        """
        import shutil, subprocess
        outcomes = {}
        for folder in ("/tmp", "/home/node", "/home/node/workspace", "/dev/shm", "/run"):
            path = folder + "/raised"
            copied = tried(shutil.copy, "/usr/bin/id", path)
            if copied != "DONE":
                outcomes[folder] = copied
                continue
            tried(os.chmod, path, 0o6755)
            outcomes[folder] = tried(os.chown, path, 0, 0)
            try:
                outcomes[folder + " runs as"] = subprocess.run([path, "-u"], capture_output=True).stdout.decode().strip()
            except OSError as error:
                outcomes[folder + " runs as"] = "not"
            os.unlink(path)
        report(outcomes=outcomes)
        """
    )
    assert set(found["outcomes"].values()) <= {"EPERM", "EINVAL", "EACCES", "1000", "not"}, found
    assert found["outcomes"]["/home/node runs as"] in ("1000", "not")


def test_the_first_process_is_worth_nothing(attack: Attack) -> None:
    """Where it is of the same user it can be traced; there is nothing to gain by it (see test_survival, too)."""
    found = attack(
        """
        import signal
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP, signal.SIGINT):
            tried(os.kill, 1, number)
        time.sleep(0.1)
        status = dict(line.split(":", 1) for line in open("/proc/1/status") if ":" in line)
        report(capabilities=[int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
               locks=[status["NoNewPrivs"].strip(), status["Seccomp"].strip()],
               ids=status["Uid"].split() + status["Gid"].split(), state=status["State"].split()[0])
        """
    )
    assert found["capabilities"] == [0] * 5
    assert found["locks"] == ["1", "2"]
    assert set(found["ids"]) in ({"1000"}, {"900"})
    assert found["state"] in ("S", "R", "D"), "it lives, and was not stopped"


def test_the_bottle_lives_after_all_this(cell: Launched) -> None:
    assert cell.bottle.exec(["echo", "alive"]).text == "alive\n"


def test_there_is_no_other_way_to_call_the_kernel(attack: Attack) -> None:
    """The calls of 32-bit programs have other numbers, and those of x32 an extra bit."""
    if os.uname().machine != "x86_64":
        pytest.skip("only x86-64 has these")
    found = attack(
        """
        import mmap
        code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        place = ctypes.addressof(ctypes.c_char.from_buffer(code))
        code.write(b"\\xb8\\x14\\x00\\x00\\x00" b"\\xcd\\x80" b"\\xc3")  # mov eax, 20 (getpid); int 0x80; ret
        def in_a_child(call):
            if os.fork() == 0:
                os._exit(0 if call() else 1)
            return os.waitstatus_to_exitcode(os.wait()[1])
        outcomes = [in_a_child(lambda: ctypes.CFUNCTYPE(ctypes.c_int)(place)() == -38)]
        for number in (39, 272, 165, 521):
            x32 = ctypes.c_long(0x40000000 | number)
            outcomes.append(in_a_child(lambda: called(libc.syscall, x32) == "ENOSYS"))
        report(outcomes=outcomes)
        """
    )
    assert set(found["outcomes"]) <= {0, -signal.SIGSYS}, "not there, or the end of who tries"


def test_a_personality_changes_nothing_about_the_filter(attack: Attack) -> None:
    found = attack(
        """
        personas = [called(libc.personality, ctypes.c_ulong(value)) for value in (0x0008, 0x0400000, 0x0040000)]
        report(refused=[called(libc.unshare, 0x10000000), called(libc.setns, 0, 0)])
        """
    )
    assert set(found["refused"]) <= {"EPERM"}


def test_nothing_can_be_typed_into_a_terminal(attack: Attack) -> None:
    found = attack(
        """
        import fcntl, pty
        master, slave = pty.openpty()
        outcomes = []
        for request in (0x5412, 0x541C, 0x5412 | 1 << 32):
            for descriptor in (0, slave, master):
                outcomes.append(called(libc.ioctl, descriptor, ctypes.c_ulong(request), b"x"))
        report(outcomes=outcomes)
        """
    )
    assert set(found["outcomes"]) == {"EPERM"}


def test_it_cannot_see_what_runs_on_the_host(cell: Launched) -> None:
    names = shell_inside(cell.bottle, "cat /proc/[0-9]*/comm").text.split()
    assert len(names) < 20
    assert not {"systemd", "sshd", "envoy", "pytest", "claude-bottle"} & set(names)
