"""The programs of other people that these tests run, each fetched into the cache and only once."""

import functools
import os
import pathlib
import subprocess

from harness.process import last_lines
from harness.results import Failure
from harness.toolchain import Missing, cache, signet  # noqa: F401 - suites ask here for everything

HERE = pathlib.Path(__file__).resolve().parent.parent
KUBERNETES_VERSION = "1.34.4"
HELM_VERSION = "3.22.0"
NODE_PROGRAMS = ("kube-apiserver", "kubelet", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubectl", "helm")
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


def install_for_node():
    """Fetches everything a node needs: inside its network namespace nothing can be fetched."""
    kubernetes(*NODE_PROGRAMS)
    debian()
