"""The host's files: what was not granted does not exist, and what was granted cannot be changed."""

from __future__ import annotations

import json
import os
from pathlib import Path

from claude_bottle.operations.launch import Launched
from tests.escape.conftest import Attack
from tests.support.bottles import World, shell_inside

NOT_THERE = {"ENOENT", "ENOTDIR"}
REFUSED = {
    "EPERM",
    "EACCES",
    "EROFS",
    "ENOENT",
    "ENOTDIR",
    "ENOSYS",
    "EBUSY",
    "ELOOP",
    "EINVAL",
    "ENXIO",
    "ESRCH",
}
# Where the system is not the host's but an image's, these are, too.
OF_THE_IMAGE = {
    "docker": {"/etc/ssh", "/var/lib", "/var/log", "/boot", "/mnt", "/media", "/srv"},
}
OF_GVISOR = {(10, 200), (10, 229)}  # its own tun and fuse, of no use to its agents: see test_gvisor
CHECKOUT = Path(__file__).parents[2]


def test_the_operators_files_do_not_exist(attack: Attack, cell: Launched, world: World) -> None:
    root = cell.paths.root
    hidden = [
        *(
            "/root",
            "/home/operator",
            "/etc/shadow",
            "/etc/sudoers",
            "/etc/ssh",
            "/var/lib",
            "/var/log",
            "/boot",
        ),
        *(
            "/mnt",
            "/media",
            "/srv",
            "/oldroot",
            "/newroot",
            "/run/user",
            "/run/systemd",
            "/var/run/docker.sock",
        ),
        *(
            str(path)
            for path in (world.folder, world.home.root, world.repository, root, root / "metadata.json")
        ),
        *(str(path) for path in (root / "run", root / "log", cell.paths.decisions, CHECKOUT, Path.home())),
        *("/proc/kcore", "/proc/keys", "/proc/sys/kernel/core_pattern"),
    ]
    found = attack(
        "report(outcomes={path: tried(os.listdir if os.path.isdir(path) else open, path) for path in json.loads(sys.argv[1])})",
        json.dumps(hidden),
    )
    visible = {path for path, outcome in found["outcomes"].items() if outcome not in NOT_THERE | {"EACCES"}}
    visible -= OF_THE_IMAGE.get(cell.metadata.backend, set())
    assert visible <= {"/proc/kcore", "/proc/keys", "/proc/sys/kernel/core_pattern"}
    content = shell_inside(cell.bottle, "cat /proc/kcore /proc/keys 2>/dev/null | wc -c").text.strip()
    assert content == "0"


def test_the_root_holds_what_was_planned(cell: Launched) -> None:
    listing = set(cell.bottle.exec(["ls", "-A", "/"]).text.split())
    system = (
        "bin",
        "sbin",
        "lib",
        "lib32",
        "lib64",
        "libx32",
        "usr",
        "etc",
        "proc",
        "dev",
        "opt",
        "run",
        "var",
    )
    image = (".dockerenv", "boot", "media", "mnt", "root", "srv", "sys")
    of_an_image = cell.metadata.backend in OF_THE_IMAGE
    assert listing <= {*system, "tmp", "home", *(image if of_an_image else ())}
    assert cell.bottle.exec(["ls", "-A", "/home"]).text.split() == ["node"]
    if of_an_image:
        assert shell_inside(cell.bottle, "ls -A /run /sys /mnt /srv /media").text.split() == [
            *("/media:", "/mnt:", "/run:", "claude-bottle", "/srv:", "/sys:"),
            *(("fs",) if cell.metadata.runtime else ()),
        ]
    else:
        assert shell_inside(cell.bottle, "ls -A /run /var").text.split() == ["/run:", "/var:", "run", "tmp"]


def test_every_file_that_others_could_write_is_read_only_or_its_own(cell: Launched, attack: Attack) -> None:
    """Walks everything but /usr and /proc and tries to write."""
    found = attack(
        """
        written, own = [], ("/home/node", "/tmp", "/dev/shm", "/run", "/dev/pts", "/opt/claude-bottle/sessions")
        for folder, folders, files in os.walk("/"):
            if folder in ("/", "/dev"):
                folders[:] = [name for name in folders if name not in ("usr", "proc")]
            if any(folder == item or folder.startswith(item + "/") for item in own):
                folders.clear()
                continue
            for name in files:
                path = os.path.join(folder, name)
                if folder != "/dev" and tried(lambda: os.close(os.open(path, os.O_WRONLY))) == "DONE":
                    written.append(path)
            if tried(os.mkdir, os.path.join(folder, "new")) == "DONE":
                written.append(folder)
        report(written=written)
        """
    )
    judged_below = ("/dev/char/", "/dev/net/tun") if cell.metadata.runtime else ()
    assert [path for path in found["written"] if not path.startswith(judged_below)] == []


def test_the_system_cannot_be_changed(attack: Attack) -> None:
    found = attack(
        """
        outcomes = {}
        for path in ("/usr/bin/sh", "/usr/new", "/etc/passwd", "/etc/resolv.conf", "/new", "/opt/new", "/var/new",
                     "/opt/claude-bottle/bin/claude", "/opt/claude-bottle/authorities.pem", "/dev/new", "/bin/sh"):
            outcomes["write " + path] = tried(lambda: os.close(os.open(path, os.O_WRONLY | os.O_CREAT)))
            outcomes["unlink " + path] = tried(os.unlink, path)
            outcomes["rename " + path] = tried(os.rename, path, path + ".old")
        for path in ("/etc/passwd", "/opt/claude-bottle/bin/claude", "/usr/bin/sh"):
            outcomes["chmod " + path] = tried(os.chmod, path, 0o666)
            outcomes["chown " + path] = tried(os.chown, path, 1000, 1000)
            outcomes["link " + path] = tried(os.link, path, "/tmp/linked")
        for path in ("/home/node", "/home/node/workspace", "/tmp"):
            outcomes["rmdir " + path] = tried(os.rmdir, path)
            outcomes["rename " + path] = tried(os.rename, path, path + ".old")
        report(outcomes=outcomes)
        """
    )
    done = {name: outcome for name, outcome in found["outcomes"].items() if outcome == "DONE"}
    assert done == {}
    assert set(found["outcomes"].values()) <= REFUSED | {"EXDEV"}


def test_no_device_can_be_made_and_only_harmless_ones_are_there(cell: Launched, attack: Attack) -> None:
    found = attack(
        """
        import stat
        outcomes, devices = {}, {}
        for name, kind, number in (("disk", stat.S_IFBLK, (8, 0)), ("mem", stat.S_IFCHR, (1, 1)),
                                   ("kmsg", stat.S_IFCHR, (1, 11)), ("null", stat.S_IFCHR, (1, 3)),
                                   ("loop", stat.S_IFBLK, (7, 0)), ("fuse", stat.S_IFCHR, (10, 229)),
                                   ("kvm", stat.S_IFCHR, (10, 232)), ("tun", stat.S_IFCHR, (10, 200))):
            for folder in ("/tmp", "/home/node", "/dev/shm", "/run"):
                path = f"{folder}/{name}"
                outcome = tried(os.mknod, path, kind | 0o666, os.makedev(*number))
                outcomes[path] = outcome if outcome != "DONE" else tried(lambda: os.close(os.open(path, os.O_RDWR)))
        for folder, folders, files in os.walk("/dev"):
            for name in files:
                found = os.lstat(os.path.join(folder, name))
                if stat.S_ISBLK(found.st_mode) or stat.S_ISCHR(found.st_mode):
                    devices[os.path.join(folder, name)] = [os.major(found.st_rdev), os.minor(found.st_rdev)]
        report(outcomes=outcomes, devices=devices)
        """
    )
    assert "DONE" not in found["outcomes"].values()
    harmless = {(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2)}
    harmless |= OF_GVISOR if cell.metadata.runtime else set()
    for path, number in found["devices"].items():
        assert tuple(number) in harmless or path.startswith("/dev/pts/"), path


def test_the_kernels_own_files_cannot_be_written(cell: Launched, attack: Attack) -> None:
    found = attack(
        """
        written, tested = [], 0
        for top in ("/proc/sys", "/proc/irq", "/proc/bus", "/proc/fs", "/proc/scsi", "/sys"):
            for folder, folders, files in os.walk(top):
                for name in files:
                    path = os.path.join(folder, name)
                    tested += 1
                    if tried(lambda: os.close(os.open(path, os.O_WRONLY))) == "DONE":
                        written.append(path)
        for path in ("/proc/sysrq-trigger", "/proc/acpi", "/proc/timer_list", "/proc/mtrr"):
            if os.path.isfile(path) and tried(lambda: os.close(os.open(path, os.O_WRONLY))) == "DONE":
                written.append(path)
        report(written=written, tested=tested, sys=os.path.exists("/sys") and os.listdir("/sys"))
        """
    )
    assert {path for path in found["written"] if not path.startswith(OF_ITS_OWN)} == set()
    assert found["tested"] > 100
    assert (found["sys"] or []) == (["fs"] if cell.metadata.runtime else []), "gVisor's own control groups"


def test_its_own_settings_are_not_the_hosts(attack: Attack) -> None:
    names = ("kernel/msgmax", "kernel/sem", "kernel/pid_max", "kernel/ns_last_pid", "fs/mqueue/queues_max")
    before = {name: Path("/proc/sys", name) for name in names if Path("/proc/sys", name).exists()}
    values = {name: path.read_text() for name, path in before.items() if "last" not in name}
    found = attack(
        """
        def write(path):
            with open(path, "w") as file:
                file.write("333")
        report(outcomes=[tried(write, "/proc/sys/" + name) for name in json.loads(sys.argv[1])])
        """,
        json.dumps(names),
    )
    assert len(found["outcomes"]) == len(names)
    assert {name: before[name].read_text() for name in values} == values


# Settings of the bottle's own ipc and pid namespaces.
OF_ITS_OWN = (
    *("/proc/sys/fs/mqueue/", "/proc/sys/kernel/msg", "/proc/sys/kernel/shm", "/proc/sys/kernel/sem"),
    *("/proc/sys/kernel/auto_msgmni", "/proc/sys/kernel/ns_last_pid", "/proc/sys/kernel/pid_max"),
)


def test_other_processes_do_not_lead_to_the_host(attack: Attack) -> None:
    """Everything below /proc that would be a way to another root, or to another's memory or files."""
    found = attack(
        """
        opened, seen = [], 0
        for pid in [name for name in os.listdir("/proc") if name.isdigit()]:
            for name in ("root", "cwd", "exe", "mem", "environ", "ns/user", "ns/mnt", "map_files", "fd", "fdinfo",
                         "task/%s/root" % pid, "task/%s/cwd" % pid, "attach"):
                path = f"/proc/{pid}/{name}"
                seen += 1
                try:
                    os.listdir(path) if os.path.isdir(path) else os.close(os.open(path, os.O_RDONLY))
                except OSError:
                    continue
                opened.append((pid, name))
        held, spaces = set(), {}
        if tried(os.listdir, "/proc/1/fd") != "EACCES":  # where it is another user's
            held = {os.readlink(f"/proc/1/fd/{name}").partition(":")[0] for name in os.listdir("/proc/1/fd")}
            spaces = {name: os.readlink(f"/proc/1/ns/{name}") == os.readlink(f"/proc/self/ns/{name}")
                      for name in os.listdir("/proc/1/ns")}
        roots = {pid: sorted(os.listdir(f"/proc/{pid}/root")) for pid, name in opened if name == "root"}
        report(held=sorted(held), spaces=spaces, roots=roots, own=sorted(os.listdir("/")), seen=seen)
        """
    )
    assert set(found["held"]) <= {"pipe", "anon_inode"}
    assert all(found["spaces"].values()), "the first process has the same namespaces and no others"
    assert all(listing == found["own"] for listing in found["roots"].values())
    assert found["seen"] > 20


def test_its_own_descriptors_do_not_lead_to_the_host(attack: Attack) -> None:
    """A caller may have a file of the host as standard input: what arrives is a pipe."""
    found = attack(
        """
        import stat
        kinds, reopened = {}, {}
        for number in (0, 1, 2):
            link = os.readlink(f"/proc/self/fd/{number}")
            kinds[number] = link.partition(":")[0]
        others = [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")
                  if int(name) > 2 and os.path.islink(f"/proc/self/fd/{name}")]
        report(kinds=kinds, others=[item for item in others if not item.startswith("/proc/")])
        """
    )
    assert set(found["kinds"].values()) == {"pipe"}
    assert found["others"] == []


def test_a_callers_file_cannot_be_opened_again(cell: Launched, tmp_path: Path) -> None:
    """As the programs behind /proc/self/fd would: with a caller's files in place of his terminal."""
    import subprocess

    precious = tmp_path / "precious"
    precious.write_text("unchanged")
    script = (
        "for n in 0 1 2; do echo changed > /proc/self/fd/$n; done; exec 3<>/proc/self/fd/1; echo changed >&3"
    )
    with precious.open("r+") as given:
        argv = cell.bottle.command(["sh", "-c", script], tty=False)
        out = tmp_path / "out"
        with out.open("w+") as taken:
            subprocess.run(argv, stdin=given, stdout=taken, stderr=subprocess.DEVNULL, check=False)
    assert precious.read_text() == "unchanged"


def test_the_hosts_git_folder_cannot_be_written_through_the_clone(cell: Launched, world: World) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in (world.repository / ".git").rglob("*"))
    shell_inside(
        cell.bottle,
        """
        for file in $(find /opt/claude-bottle/objects -type f); do chmod u+w $file; echo x > $file; rm -f $file; done
        git repack -adk; git gc --prune=now; git prune
        touch /opt/claude-bottle/objects/0/new
        """,
    )
    after = sorted((path, path.stat().st_mtime_ns) for path in (world.repository / ".git").rglob("*"))
    assert before == after
    assert os.path.isdir(world.repository / ".git")


def test_another_bottle_cannot_be_seen(attack: Attack, cell: Launched, world: World) -> None:
    with world.bottle() as other:
        shell_inside(other.bottle, "echo treasure > ~/treasure; echo treasure > /tmp/treasure")
        found = attack(
            """
            paths = [sys.argv[1] + end for end in ("", "/home", "/home/treasure", "/workspace", "/tmp/treasure")]
            paths += ["/home/node/treasure", "/tmp/treasure", "/proc/1/root" + sys.argv[1]]
            report(outcomes=[tried(os.stat, path) for path in paths])
            """,
            str(other.paths.root),
        )
    assert set(found["outcomes"]) <= NOT_THERE | {"EACCES"}
