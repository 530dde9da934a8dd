"""Writes an image: an OCI layout, and one tar of it that `ctr images import`, `docker load` and `podman load` take.
The digest depends on the layers and the configuration alone."""

import gzip
import hashlib
import io
import json
import pathlib
import shutil
import tarfile


def full_name(name):
    """As container runtimes write a name out: `signet:1` is docker.io/library/signet:1."""
    first, _, rest = name.partition("/")
    if not rest:
        return f"docker.io/library/{name}"
    return name if "." in first or ":" in first or first == "localhost" else f"docker.io/{name}"


def _json(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


class Image:
    """layers: [(what it is, Tree)]; settings: the OCI `config` object (User, Env, Cmd, Labels ...)."""

    def __init__(self, architecture, created, layers, settings):
        self._blobs = {}
        tars = [(title, tree.tar()) for title, tree in layers]
        config = self._blob("application/vnd.oci.image.config.v1+json", _json({
            "architecture": architecture, "os": "linux", "created": created, "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}" for _, tar in tars]},
            "history": [{"created": created, "created_by": title} for title, _ in tars]}))
        self.layers = [(title, self._blob("application/vnd.oci.image.layer.v1.tar+gzip", gzip.compress(tar, 6, mtime=0)))
                       for title, tar in tars]
        self._manifest = self._blob("application/vnd.oci.image.manifest.v1+json", _json({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config,
            "layers": [layer for _, layer in self.layers]}))
        self._platform = {"architecture": architecture, "os": "linux"}
        self._config = config
        self.digest = self._manifest["digest"]

    def write(self, folder, archive, names):
        """names: `repository:tag`, one digest under each of them. What stood there before is replaced."""
        index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
            {**self._manifest, "platform": self._platform, "annotations": {
                "org.opencontainers.image.ref.name": name.rpartition(":")[2], "io.containerd.image.name": full_name(name)}}
            for name in names]}
        files = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": _json(index)}
        for digest, data in self._blobs.items():
            files[self._path(digest)] = data
        folder = pathlib.Path(folder)
        shutil.rmtree(folder, ignore_errors=True)
        for path, data in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        files["manifest.json"] = _json([{"Config": self._path(self._config["digest"]), "RepoTags": names,
                                         "Layers": [self._path(layer["digest"]) for _, layer in self.layers]}])
        with tarfile.open(archive, "w", format=tarfile.USTAR_FORMAT) as tar:
            for path, data in sorted(files.items()):
                info = tarfile.TarInfo(path)
                info.size, info.mode = len(data), 0o644
                tar.addfile(info, io.BytesIO(data))

    def _blob(self, media_type, data):
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self._blobs[digest] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    @staticmethod
    def _path(digest):
        return f"blobs/{digest.replace(':', '/')}"
