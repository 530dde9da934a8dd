"""Small images for test pods, written by hand in docker-archive form: one layer, no engine."""

import hashlib
import io
import json
import pathlib
import re
import tarfile

from harness.process import run

from . import toolchain

_PAUSE = """
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static void end(int s) { (void)s; _exit(0); }
static void reap(int s) { (void)s; while (waitpid(-1, 0, WNOHANG) > 0) {} }
int main(void) { signal(SIGTERM, end); signal(SIGINT, end); signal(SIGCHLD, reap); for (;;) pause(); }
"""
PAUSE = "localhost/pause:1"
# A shell and our three programs: the workloads' image, until and unless a test brings another.
WORKLOAD = "localhost/workload:1"


def pause(folder):
    """The image of pods' sandboxes, as a file."""
    source = folder / "pause.c"
    source.write_text(_PAUSE)
    run(["cc", "-static", "-Os", "-s", "-o", folder / "pause", source])
    return write(folder / "pause.tar", PAUSE, {"pause": folder / "pause"}, ["/pause"])


def workload(folder, extra=None, tag=WORKLOAD):
    """busybox, openssl and our programs with the libraries they are linked to. `extra`: path in the image -> file or bytes."""
    busybox = toolchain.debian() / "bin/busybox"
    programs = {f"usr/bin/{name}": toolchain.signet() / name for name in ("signet", "signet-agent", "signet-server")}
    programs |= {"bin/busybox": busybox, "usr/bin/openssl": pathlib.Path("/usr/bin/openssl")}
    files = {**programs, "etc/passwd": b"root:x:0:0:root:/:/bin/sh\n", "tmp/.keep": b""}
    for program in programs.values():
        for library in re.findall(r"(/\S+) \(0x", run(["ldd", program]).stdout):
            files[library.lstrip("/")] = pathlib.Path(library).resolve()
    links = {f"bin/{applet}": "busybox" for applet in run([busybox, "--list"]).stdout.split() if applet != "busybox"}
    return write(folder / f"{tag.split('/')[-1].replace(':', '-')}.tar", tag, {**files, **(extra or {})}, [], links)


def write(archive, tag, files, entrypoint, links=None, user="0"):
    """Writes `archive`. `files`: path in the image -> file on disk or bytes, all executable; `links`: path -> target."""
    layer = archive.with_suffix(".layer")
    with tarfile.open(layer, "w") as tar:
        for path, content in sorted(files.items()):
            data = content if isinstance(content, bytes) else pathlib.Path(content).read_bytes()
            _add(tar, path, data)
        for path, target in sorted((links or {}).items()):
            entry = tarfile.TarInfo(path)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
    digest = hashlib.sha256(layer.read_bytes()).hexdigest()
    config = {"architecture": _architecture(), "os": "linux", "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
              "config": {"Env": ["PATH=/usr/bin:/bin"], "Entrypoint": entrypoint, "User": user}}
    with tarfile.open(archive, "w") as tar:
        _add(tar, "manifest.json", json.dumps([{"Config": "config.json", "RepoTags": [tag], "Layers": ["layer.tar"]}]).encode())
        _add(tar, "config.json", json.dumps(config).encode())
        tar.add(layer, "layer.tar")
    layer.unlink()
    return archive


def _add(tar, path, data):
    entry = tarfile.TarInfo(path)
    entry.size, entry.mode = len(data), 0o755
    tar.addfile(entry, io.BytesIO(data))


def _architecture():
    return {"x86_64": "amd64", "aarch64": "arm64"}[run(["uname", "-m"]).stdout.strip()]
