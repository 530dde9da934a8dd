"""The programs of other people that these tests run, each fetched into the cache and only once."""

import functools
import hashlib
import os
import pathlib
import shutil
import subprocess
import time

from harness.process import last_lines, run
from harness.results import Failure, note
from harness.toolchain import Missing, cache, signet  # noqa: F401 - suites ask here for everything

HERE = pathlib.Path(__file__).resolve().parent.parent
KUBERNETES_VERSION = "1.34.4"
CONTROLLER_VERSION = "0.6.3"
HELM_VERSION = "3.22.0"
NODE_PROGRAMS = ("kube-apiserver", "kubelet", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubectl", "helm")
IMAGE, SAME_IMAGE = "localhost/signet:test", "localhost/signet:same"
_NO_REGISTRY = 75  # EX_TEMPFAIL, how installers say "the toolchain or the registry is not here"


@functools.cache
def kubernetes(*programs):
    """The folder with these of Kubernetes' programs (and helm), built from the Go module proxy when absent."""
    return _folder(f"{', '.join(programs)} of Kubernetes {KUBERNETES_VERSION}",
                   [HERE / "install_kubernetes", cache(), KUBERNETES_VERSION, HELM_VERSION, *programs])


@functools.cache
def debian():
    """A tree of unpacked Debian packages: etcd, containerd, runc, CNI plugins, nft, busybox."""
    return _folder("etcd, containerd and runc from Debian", [HERE / "unpack_packages", cache()])


@functools.cache
def controller():
    """The folder of spire-controller-manager: bin, crd, rbac."""
    return _folder(f"spire-controller-manager {CONTROLLER_VERSION}", [HERE / "controller" / "install", cache(), CONTROLLER_VERSION])


def libraries():
    """LD_LIBRARY_PATH for the programs of debian()."""
    folders = [*debian().glob("usr/lib/*-linux-gnu"), *debian().glob("lib/*-linux-gnu")]
    return ":".join(map(str, folders))


def _folder(what, argv):
    """Runs an installer, which says on standard error what it does if anything, and returns the folder it prints."""
    try:
        done = subprocess.run([str(a) for a in argv], text=True, stdout=subprocess.PIPE, timeout=7200, env=dict(os.environ))
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"{what}: {error}") from None
    if done.returncode == 0:
        return pathlib.Path(done.stdout.strip().splitlines()[-1])
    why = f"{what}: {pathlib.Path(argv[0]).name} exited {done.returncode}: {last_lines(done.stdout, 3)}"
    raise (Missing if done.returncode == _NO_REGISTRY else Failure)(why)


@functools.cache
def image():
    """The archive of the image of the programs under test, under two names with one digest; made anew when they changed."""
    tools = HERE.parent.parent / "tools"
    parts = [*(signet() / name for name in ("signet-server", "signet-agent", "signet")), tools / "image", *sorted((tools / "container").glob("*.py"))]
    key = hashlib.sha256(b"".join(hashlib.sha256(part.read_bytes()).digest() for part in parts)).hexdigest()[:16]
    folder = cache() / "signet-image" / key
    if not (folder / "signet.tar").exists():
        note("building the image of the programs under test")
        made = folder.with_suffix(f".{os.getpid()}")
        run([tools / "image", "--bin-dir", signet(), "--output", made, "--name", IMAGE, "--name", SAME_IMAGE], timeout=600)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
        for other in folder.parent.iterdir():
            if other.stat().st_mtime < time.time() - 24 * 3600:  # younger ones may be another run's
                shutil.rmtree(other, ignore_errors=True)
    return folder / "signet.tar"


def install_for_node():
    """Fetches everything a node needs: inside its network namespace nothing can be fetched."""
    kubernetes(*NODE_PROGRAMS)
    debian()
    controller()
    image()
