"""A file tree in memory. The same tree is always the same tar, whoever makes it, when and where: entries sorted by path,
owners by number, times zero. Nothing is taken from the disk but what the caller hands over."""

import dataclasses
import io
import os
import pathlib
import stat
import tarfile


@dataclasses.dataclass(frozen=True)
class Entry:
    kind: str  # "file", "directory" or "link"
    mode: int
    owner: int = 0  # both user and group
    data: bytes = b""
    target: str = ""


class Tree:
    """Paths are relative, without "./" and without a slash at the end."""

    def __init__(self):
        self._entries = {}

    def __contains__(self, path):
        return path in self._entries

    def __getitem__(self, path):
        return self._entries[path]

    def items(self):
        """(path, entry), sorted, so that a folder comes before what is in it."""
        return sorted(self._entries.items())

    def directory(self, path, mode=0o755, owner=0):
        self._parents(path)
        self._entries[path] = Entry("directory", mode, owner)

    def file(self, path, data, mode=0o644, owner=0):
        self._parents(path)
        self._entries[path] = Entry("file", mode, owner, data if isinstance(data, bytes) else data.encode())

    def link(self, path, target):
        self._parents(path)
        self._entries[path] = Entry("link", 0o777, 0, b"", target)

    def size(self):
        return sum(len(entry.data) for entry in self._entries.values())

    def tar(self):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for path, entry in self.items():
                info = tarfile.TarInfo(path + "/" if entry.kind == "directory" else path)
                info.mode, info.uid, info.gid, info.mtime = entry.mode, entry.owner, entry.owner, 0
                info.size, info.linkname = len(entry.data), entry.target
                info.type = {"file": tarfile.REGTYPE, "directory": tarfile.DIRTYPE, "link": tarfile.SYMTYPE}[entry.kind]
                archive.addfile(info, io.BytesIO(entry.data))
        return out.getvalue()

    def write(self, folder):
        """Onto the disk; owners too, which needs root where they are not the caller's."""
        root = pathlib.Path(folder)
        root.mkdir(parents=True, exist_ok=True)
        for path, entry in self.items():
            place = root / path
            if entry.kind == "link":
                place.symlink_to(entry.target)
                continue
            if entry.kind == "directory":
                place.mkdir(exist_ok=True)
            else:
                place.write_bytes(entry.data)
            found = place.stat()
            if (found.st_uid, found.st_gid) != (entry.owner, entry.owner):
                os.chown(place, entry.owner, entry.owner)
            if stat.S_IMODE(found.st_mode) != entry.mode:
                os.chmod(place, entry.mode)
            os.utime(place, (0, 0))

    def _parents(self, path):
        parent = os.path.dirname(path)
        if parent and parent not in self._entries:
            self.directory(parent)
