"""Namespaces of its own for a whole run: mounts, network, processes, and a part of each cgroup hierarchy.

Whatever ends the run, a kill -9 included, ends everything in it: the process namespace dies with its first process,
which dies with the runner. What can be left are empty cgroup directories; the next run removes them.
"""

import ctypes
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

from harness.process import run
from harness.toolchain import Missing

NODE_ADDRESS = "10.99.0.1"
_CGROUPS = pathlib.Path("/sys/fs/cgroup")
_PREFIX = "signet-kubernetes-"
_INSIDE = "SIGNET_KUBERNETES_INSIDE"
_PR_SET_PDEATHSIG = 1
_CLONE_NEWCGROUP = 0x02000000
_libc = ctypes.CDLL(None, use_errno=True)
# Where Kubernetes and its runtime keep files outside of what they can be configured to; ours are on file systems of our own.
_PRIVATE = ("/run/containerd", "/run/signet", "/var/lib/cni", "/var/lib/kubelet", "/var/lib/signet-agent",
            "/var/log/containers", "/var/log/pods")


def is_inside():
    return _INSIDE in os.environ


def require_possible():
    """Missing when this machine does not let a node run in namespaces of its own."""
    if os.geteuid() != 0:
        raise Missing("a Kubernetes node needs root")
    if not shutil.which("unshare") or not shutil.which("ip"):
        raise Missing("a Kubernetes node needs `unshare` and `ip` (packages util-linux, iproute2)")
    hierarchies = _hierarchies()
    if not hierarchies:
        raise Missing(f"no cgroup hierarchy is mounted below {_CGROUPS}")
    try:
        for hierarchy in hierarchies:
            probe = hierarchy / f"{_PREFIX}probe-{os.getpid()}"
            probe.mkdir()
            probe.rmdir()
    except OSError as error:
        raise Missing(f"a Kubernetes node makes cgroups: {error}") from None


def run_inside(argv):
    """Runs `argv`, which begins with enter(), in new namespaces and returns its exit code."""
    _remove_leftovers()
    name = f"{_PREFIX}{os.getpid()}"
    try:
        for hierarchy in _hierarchies():
            _make_cgroup(hierarchy, name)
        child = subprocess.Popen(
            ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "slave",
             *map(str, argv)], env={**os.environ, _INSIDE: name}, preexec_fn=_die_with_parent)
        try:
            return child.wait()
        finally:
            child.kill()
            child.wait()
    finally:
        for hierarchy in _hierarchies():
            _remove_tree(hierarchy / name)


def enter():
    """The first thing inside: cgroup and private file systems, the node's network, and an init that reaps."""
    run(["mount", "--make-rshared", "/"])
    for hierarchy in _hierarchies():
        (hierarchy / os.environ[_INSIDE] / "cgroup.procs").write_text("0")
    if _libc.unshare(_CLONE_NEWCGROUP) != 0:
        raise Missing(f"no cgroup namespace: {os.strerror(ctypes.get_errno())}")
    _mount_cgroups()
    for folder in _PRIVATE:
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
        run(["mount", "-t", "tmpfs", "-o", "mode=755", "signet-kubernetes", folder])
    pathlib.Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    for command in ("link set lo up", "link add v0 type veth peer name v1", f"addr add {NODE_ADDRESS}/24 dev v0", "link set v0 up",
                    "link set v1 up", "route add default via 10.99.0.2 dev v0"):
        run(["ip", *command.split()])
    _become_child_of_init()  # last: process 1 has the cgroup and the cgroup namespace of a machine's own


def _become_child_of_init():
    """Splits in two: process 1 of the namespace waits and reaps, the child goes on. Containers' orphans end at process 1."""
    child = os.fork()
    if child == 0:
        os.setsid()
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: os.kill(child, received))
    while True:
        try:
            ended, status = os.waitpid(-1, 0)
        except ChildProcessError:
            os._exit(1)
        if ended == child:
            sys.stdout.flush()
            os._exit(os.waitstatus_to_exitcode(status) % 256)


def _hierarchies():
    """Mount points of all cgroup hierarchies: one on a pure v2 machine, one for each controller on others."""
    found = [pathlib.Path(fields[4]) for fields in _cgroup_mounts()]
    return list(dict.fromkeys(p for p in found if (p / "cgroup.procs").exists()))


def _cgroup_mounts():
    """mountinfo's fields of the cgroup mounts that are visible, without their optional fields."""
    result = []
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        before, after = line.split(" - ")
        kind, _, options = after.split()[:3]
        fields = before.split()
        if kind in ("cgroup", "cgroup2") and fields[4].startswith(str(_CGROUPS)):
            result.append([*fields[:6], kind, options])
    return result


def _make_cgroup(hierarchy, name):
    """Makes it below the root, with the same controllers and limits."""
    ours = hierarchy / name
    if (hierarchy / "cgroup.controllers").exists():
        _delegate(hierarchy)
        ours.mkdir()
    else:
        ours.mkdir()
        for limit in ("cpuset.cpus", "cpuset.mems"):
            if (hierarchy / limit).exists():
                (ours / limit).write_text((hierarchy / limit).read_text())


def _delegate(folder):
    """Every controller that can be is handed to the groups below."""
    for controller in (folder / "cgroup.controllers").read_text().split():
        try:
            (folder / "cgroup.subtree_control").write_text(f"+{controller}")
        except OSError:
            pass  # not possible here; the kubelet will name what it lacks


def _remove_leftovers():
    """Empty cgroups of runs that were killed. One with a process in it is another run's: rmdir leaves it."""
    for hierarchy in _hierarchies():
        for leftover in hierarchy.glob(_PREFIX + "*"):
            if not pathlib.Path("/proc", leftover.name[len(_PREFIX):]).exists():
                _remove_tree(leftover)


def _remove_tree(folder, seconds=10):
    """Its processes are dead or dying: a cgroup can be removed a moment after the last has gone."""
    end = time.monotonic() + seconds
    while folder.exists():
        for path, _, _ in os.walk(folder, topdown=False):
            try:
                os.rmdir(path)
            except OSError:
                pass
        if time.monotonic() > end:
            return
        time.sleep(0.02)


def _mount_cgroups():
    """Mounts the hierarchies anew: in this cgroup namespace their roots are the groups made for this run."""
    mounts = _cgroup_mounts()
    if len(mounts) > 1 or mounts[0][4] != str(_CGROUPS):
        run(["mount", "-t", "tmpfs", "-o", "mode=755", "cgroup", _CGROUPS])
    for fields in mounts:
        target, kind, options = pathlib.Path(fields[4]), fields[6], fields[7].split(",")
        target.mkdir(exist_ok=True)
        wanted = [o for o in options if o not in ("rw", "ro", "xattr", "nsdelegate", "memory_recursiveprot") and not o.startswith("release_agent")]
        if kind == "cgroup" and any(o.startswith("name=") for o in wanted):
            wanted.insert(0, "none")
        run(["mount", "-t", kind, *(["-o", ",".join(wanted)] if wanted else []), "cgroup", target])
        if kind == "cgroup2" and target == _CGROUPS:
            leaf = target / "runner"
            leaf.mkdir()
            (leaf / "cgroup.procs").write_text("0")  # a group with processes of its own cannot hand controllers down
            _delegate(target)


def _die_with_parent():
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
