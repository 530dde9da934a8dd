"""Where the programs under test are, and the installers of their counterparts, each into the cache and only once."""

import functools
import os
import pathlib
import shutil
import subprocess

from .process import last_lines
from .results import Failure, note

HERE = pathlib.Path(__file__).resolve().parent.parent
SPIRE_VERSION = "1.13.3"
KEYCLOAK_VERSION = "26.7.3"
_NO_REGISTRY = 75  # EX_TEMPFAIL, how installers say "the toolchain or the registry is not here"


class Missing(Exception):
    """A counterpart cannot be had on this machine: the one reason for a SKIP."""


def cache():
    default = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "signet-interop"
    return pathlib.Path(os.environ.get("SIGNET_INTEROP_CACHE") or default)


@functools.cache
def signet():
    """The folder with signet-server, signet-agent and signet."""
    given = os.environ.get("SIGNET_BIN_DIR")
    if given:
        folder = pathlib.Path(given).resolve()
    else:
        folder = HERE.parent.parent / "build" / "release" / "bin"
    if not (folder / "signet-server").exists():
        raise Failure(f"no signet-server in {folder}: build it, or set SIGNET_BIN_DIR")
    return folder


@functools.cache
def spire():
    """The folder with spire-server and spire-agent, built from the Go module proxy when absent."""
    if given := os.environ.get("SIGNET_INTEROP_SPIRE_DIR"):
        return pathlib.Path(given).resolve()
    return pathlib.Path(_install("SPIRE", [HERE / "install_spire", cache(), SPIRE_VERSION]).strip().splitlines()[-1])


@functools.cache
def go_programs():
    """The folder with our go-spiffe programs."""
    require_tool("go")
    target = cache() / "go-bin"
    target.mkdir(parents=True, exist_ok=True)
    env = {"GOFLAGS": "-buildvcs=false " + os.environ.get("SIGNET_INTEROP_GOFLAGS", "-p=2"), "GOTOOLCHAIN": "local"}
    _install("go modules", ["go", "mod", "download"], cwd=HERE / "go", env=env, registry=True)
    _install("go programs", ["nice", "-n", "10", "go", "build", "-trimpath", "-o", target, "./cmd/..."], cwd=HERE / "go", env=env)
    return target


@functools.cache
def python():
    """An interpreter with the `spiffe` package."""
    venv = cache() / "python"
    interpreter = venv / "bin" / "python"
    stamp = venv / "requirements.installed"
    wanted = (HERE / "python" / "requirements.txt").read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(venv, ignore_errors=True)
        _install("python venv", ["python3", "-m", "venv", venv], registry=True)
        _install("spiffe from PyPI", [interpreter, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r",
                                      HERE / "python" / "requirements.txt"], registry=True)
        stamp.write_text(wanted)
    return interpreter


@functools.cache
def rust_program():
    """Our program on the `spiffe` crate."""
    require_tool("cargo")
    target = cache() / "rust-target"
    manifest = HERE / "rust" / "Cargo.toml"
    _install("crates", ["cargo", "fetch", "--locked", "-q", "--manifest-path", manifest], registry=True)
    _install("rust program", ["nice", "-n", "10", "cargo", "build", "--locked", "-q", "--manifest-path", manifest],
             env={"CARGO_TARGET_DIR": str(target), "CARGO_BUILD_JOBS": os.environ.get("CARGO_BUILD_JOBS", "1")})
    return target / "debug" / "interop-workload"


@functools.cache
def java_command():
    """The command that runs our program on java-spiffe."""
    require_tool("java")
    require_tool("mvn")
    target = cache() / "java"
    sources = target / "source"
    stamp = target / "built"
    wanted = "".join(p.read_text() for p in sorted((HERE / "java").rglob("*")) if p.suffix in (".xml", ".java"))
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(HERE / "java", sources)
        _install("java-spiffe from Maven Central", ["mvn", "-q", "-B", "dependency:go-offline"], cwd=sources, registry=True)
        _install("java program", ["nice", "-n", "10", "mvn", "-q", "-B", "package"], cwd=sources)
        stamp.write_text(wanted)
    return ["java", "-cp", f"{sources}/target/classes:{sources}/target/dependency/*", "Workload"]


@functools.cache
def keycloak():
    """Keycloak's home, unpacked; its first start builds itself."""
    require_tool("java")
    require_tool("mvn")
    home = cache() / f"keycloak-{KEYCLOAK_VERSION}"
    if not (home / "bin" / "kc.sh").exists():
        artifact = f"org.keycloak:keycloak-quarkus-dist:{KEYCLOAK_VERSION}:tar.gz"
        _install("Keycloak from Maven Central", ["mvn", "-q", "-B", "dependency:get", f"-Dartifact={artifact}", "-Dtransitive=false"],
                 registry=True)
        _install("Keycloak", ["mvn", "-q", "-B", "dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={cache()}"], registry=True)
        archive = cache() / f"keycloak-quarkus-dist-{KEYCLOAK_VERSION}.tar.gz"
        _install("Keycloak's archive", ["tar", "xzf", archive, "-C", cache()])
        archive.unlink()
    return home


@functools.cache
def node_programs():
    """The folder with our programs on npm's packages, installed."""
    require_tool("node")
    require_tool("npm")
    target = cache() / "node"
    sources = HERE / "node"
    stamp = target / "installed"
    wanted = (sources / "package-lock.json").read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(sources / name, target)
        _install("packages from npm", ["npm", "ci", "--no-audit", "--no-fund", "--omit=optional"], cwd=target, registry=True)
        stamp.write_text(wanted)
    for program in sources.glob("*.mjs"):
        shutil.copy(program, target)
    return target


def require_tool(name):
    if not shutil.which(name):
        raise Missing(f"no `{name}` in PATH")


def _install(what, argv, cwd=None, env=None, registry=False, timeout=3600):
    """Runs one step. A failure of a step that talks to a registry is Missing, any other is a Failure."""
    argv = [str(a) for a in argv]
    note(f"install: {what}")
    try:
        done = subprocess.run(argv, cwd=cwd, env={**os.environ, **(env or {})}, timeout=timeout, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"{what}: {error}") from None
    if done.returncode == 0:
        return done.stdout
    why = f"{what}: `{' '.join(argv)}` exited {done.returncode}: {last_lines(done.stderr or done.stdout, 3)[-600:]}"
    raise (Missing if registry or done.returncode == _NO_REGISTRY else Failure)(why)
