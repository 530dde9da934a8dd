"""Files out of Debian packages, without installing them and without root: packages are fetched by apt, which checks the
archive's signature, kept in a cache by their SHA-256, and opened in memory."""

import collections
import hashlib
import os
import pathlib
import re
import subprocess
import tarfile
import tempfile


class Error(Exception):
    """Something that the caller's user can mend; the text says how."""


Package = collections.namedtuple("Package", "name version sha256 members control")


def _run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        raise Error(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout


def architecture():
    return _run("dpkg", "--print-architecture").strip()


def _merged(path):
    """Packages of Debian 12 name /lib/... what is found in /usr/lib/..., and so on."""
    path = path.removeprefix("./").rstrip("/")
    return "usr/" + path if re.match(r"(bin|sbin|lib|lib32|lib64|libx32)(/|$)", path) else path


def needed(data):
    """(sonames, interpreter) of an ELF file; the interpreter is None for a library."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        text = _run("readelf", "--wide", "--dynamic", "--program-headers", file.name)
    interpreter = re.search(r"program interpreter: ([^\]]+)\]", text)
    return re.findall(r"\(NEEDED\).*\[([^\]]+)\]", text), interpreter and interpreter.group(1)


class Archive:
    """Packages in the version that apt would install, security updates included; given the list of an earlier image, in its
    versions and no others.

    packages: what was opened, by name."""

    def __init__(self, cache, pinned=None):
        self._cache = pathlib.Path(cache)
        self._cache.mkdir(parents=True, exist_ok=True)
        self._pinned = pinned
        self.packages = {}

    def open(self, names):
        """Fetches those that are not open yet, all at once, and returns the packages."""
        wanted = [name for name in names if name not in self.packages]
        if wanted:
            self._fetch(wanted)
        return [self.packages[name] for name in names]

    def owners(self, paths):
        """path -> name of the installed package that holds it."""
        asked = [p for path in paths for p in (f"/usr/{path.removeprefix('usr/')}", f"/{path.removeprefix('usr/')}")]
        done = subprocess.run(["dpkg-query", "--search", *asked], capture_output=True, text=True, check=False)
        found = {}
        for line in done.stdout.splitlines():
            package, _, path = line.partition(": ")
            if not package.startswith("diversion by"):
                found[_merged(path.lstrip("/"))] = package.split(",")[0].split(":")[0]
        if missing := [path for path in paths if path not in found]:
            raise Error(f"no installed package holds /{', /'.join(missing)}: the image takes its libraries from Debian packages only")
        return found

    def _fetch(self, names):
        asked = {name: name for name in names}
        if self._pinned is not None:
            if unknown := [name for name in names if name not in self._pinned]:
                raise Error(f"the list of packages does not have {', '.join(unknown)}: make a new one by building without --packages")
            asked = {name: f"{name}={self._pinned[name][0]}" for name in names}
        apt = ["apt-get", "-o", "APT::Sandbox::User=root", "-qq"]
        try:
            with tempfile.TemporaryDirectory() as empty:  # apt is silent about what it finds in its folder
                uris = _run(*apt, "--print-uris", "download", *asked.values(), cwd=empty)
        except Error as error:
            raise Error(f"{error}\nThe mirror does not offer these packages: apt-get update, or build without --packages") from None
        there = re.findall(r"^'[^']*' (\S+) \d+ SHA256:([0-9a-f]{64})$", uris, re.MULTILINE)
        files = {file.split("_")[0]: (self._cache / file, sha256) for file, sha256 in there}
        if missing := [name for name in names if name not in files]:
            raise Error(f"apt has no SHA-256 of {', '.join(missing)}: apt-get update")
        if absent := [asked[name] for name in names if not self._good(*files[name])]:
            _run(*apt, "download", *absent, cwd=self._cache)
        for name in names:
            file, sha256 = files[name]
            if not self._good(file, sha256):
                raise Error(f"{file} is not what apt's index says; remove it and try again")
            if self._pinned is not None and self._pinned[name][1] != sha256:
                raise Error(f"{name} has SHA-256 {sha256}, the list of packages says {self._pinned[name][1]}")
            self.packages[name] = Package(name, _run("dpkg-deb", "--field", file, "Version").strip(), sha256, self._members(file),
                                          _run("dpkg-deb", "--field", file))

    @staticmethod
    def _good(file, sha256):
        return file.exists() and hashlib.sha256(file.read_bytes()).hexdigest() == sha256

    @staticmethod
    def _members(file):
        """path -> bytes of a file, or the target of a link, as text."""
        found = {}
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", file], stdout=subprocess.PIPE) as unpack:
            with tarfile.open(fileobj=unpack.stdout, mode="r|") as archive:
                for member in archive:
                    if member.isreg():
                        found[_merged(member.name)] = archive.extractfile(member).read()
                    elif member.issym():
                        found[_merged(member.name)] = member.linkname
                    elif member.islnk():
                        found[_merged(member.name)] = found[_merged(member.linkname)]
        if unpack.returncode != 0:
            raise Error(f"dpkg-deb cannot unpack {file}")
        return found


def add_libraries(tree, archive, programs):
    """Puts every shared library that the programs need, and those that these need, into the tree, with the loader."""
    triplet = _run("gcc", "-print-multiarch").strip()
    folders = [f"usr/lib/{triplet}", "usr/lib"]
    done, files = set(), [needed(data) for data in programs]
    while files:
        wanted = {}
        for sonames, interpreter in files:
            if interpreter:
                # The kernel opens the name in the program: a link on most architectures, kept where it points from.
                wanted[_merged(interpreter.lstrip("/"))] = None
            for soname in sonames:
                path = next((f"{folder}/{soname}" for folder in folders if os.path.exists(f"/{folder}/{soname}")), None)
                if path is None:
                    raise Error(f"{soname} is needed and not in /{', /'.join(folders)}")
                wanted[path] = None
        files = []
        wanted = [path for path in wanted if path not in done]
        if not wanted:
            return
        done.update(wanted)
        owners = archive.owners(wanted)
        archive.open(sorted(set(owners.values())))
        for path in wanted:
            data = _add_with_links(tree, archive.packages[owners[path]], path)
            files.append(needed(data))


def _add_with_links(tree, package, path):
    """The file that a path leads to, and each link on the way."""
    members = package.members
    for _ in range(8):
        if path not in members:
            raise Error(f"{package.name} {package.version} has no /{path}")
        found = members[path]
        if isinstance(found, bytes):
            tree.file(path, found, 0o755)
            return found
        tree.link(path, found)
        path = _merged(os.path.normpath(os.path.join("/" + os.path.dirname(path), found)).lstrip("/"))
    raise Error(f"{package.name}: links without end at /{path}")


def add_documents(tree, archive):
    """What the licences ask for, and what tells a scanner which packages are here (one file a package in status.d)."""
    for package in list(archive.packages.values()):
        holder = package
        documents = package.members.get(f"usr/share/doc/{package.name}")
        if isinstance(documents, str):  # a link to the documents of a package that it depends on
            holder = archive.open([os.path.basename(documents)])[0]
        copyright_file = holder.members.get(f"usr/share/doc/{holder.name}/copyright")
        if not isinstance(copyright_file, bytes):
            raise Error(f"{package.name} has no copyright file")
        tree.file(f"usr/share/doc/{package.name}/copyright", copyright_file)
        tree.file(f"var/lib/dpkg/status.d/{package.name}", package.control)
