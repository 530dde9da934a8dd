"""tools/container: the same tree is the same bytes, whatever the order, and an image has one digest under all its names."""

import io
import json
import pathlib
import sys
import tarfile
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))

from container import debian, oci  # noqa: E402
from container.tree import Tree  # noqa: E402


def tree(paths):
    made = Tree()
    for path in paths:
        made.file(path, path, 0o755 if path.startswith("usr/bin") else 0o644)
    made.link("bin", "usr/bin")
    made.directory("var/lib/data", 0o700, 10001)
    return made


class TreeTest(unittest.TestCase):
    def test_order_of_making_does_not_show(self):
        paths = ["usr/bin/a", "etc/passwd", "usr/lib/b"]
        self.assertEqual(tree(paths).tar(), tree(paths[::-1]).tar())

    def test_tar_has_parents_first_times_zero_and_owners_by_number(self):
        with tarfile.open(fileobj=io.BytesIO(tree(["usr/bin/a"]).tar())) as archive:
            members = {m.name: m for m in archive}
        self.assertEqual(list(members), ["bin", "usr", "usr/bin", "usr/bin/a", "var", "var/lib", "var/lib/data"])
        self.assertEqual({m.mtime for m in members.values()}, {0})
        self.assertEqual({(m.uname, m.gname) for m in members.values()}, {("", "")})
        self.assertEqual((members["var/lib/data"].uid, members["var/lib/data"].mode), (10001, 0o700))
        self.assertEqual((members["usr/bin/a"].uid, members["usr/bin/a"].mode), (0, 0o755))


class ImageTest(unittest.TestCase):
    def image(self, content="x"):
        return oci.Image("amd64", "1970-01-01T00:00:00Z", [("all", tree([content]))], {"Cmd": ["a"]})

    def test_digest_is_of_what_is_in_it(self):
        self.assertEqual(self.image().digest, self.image().digest)
        self.assertNotEqual(self.image().digest, self.image("y").digest)

    def test_names_share_one_digest(self):
        with tempfile.TemporaryDirectory() as folder:
            image = self.image()
            image.write(f"{folder}/oci", f"{folder}/image.tar", ["signet:1", "registry.example.org/signet:2"])
            index = json.loads(pathlib.Path(folder, "oci", "index.json").read_text())["manifests"]
            with tarfile.open(f"{folder}/image.tar") as archive:
                docker = json.loads(archive.extractfile("manifest.json").read())
                for path in [docker[0]["Config"], *docker[0]["Layers"]]:
                    self.assertIn(path, archive.getnames())
        self.assertEqual([m["digest"] for m in index], [image.digest] * 2)
        self.assertEqual([m["annotations"]["io.containerd.image.name"] for m in index],
                         ["docker.io/library/signet:1", "registry.example.org/signet:2"])
        self.assertEqual(docker[0]["RepoTags"], ["signet:1", "registry.example.org/signet:2"])

    def test_names_are_completed_as_runtimes_do_it(self):
        for name, full in {"signet:1": "docker.io/library/signet:1", "a/b:1": "docker.io/a/b:1", "localhost/a:1": "localhost/a:1",
                           "host:5000/a:1": "host:5000/a:1"}.items():
            self.assertEqual(oci.full_name(name), full)


class DebianTest(unittest.TestCase):
    def test_a_program_names_its_libraries_and_loader(self):
        sonames, interpreter = debian.needed(pathlib.Path("/bin/true").read_bytes())
        self.assertIn("libc.so.6", sonames)
        self.assertRegex(interpreter, r"/ld-linux")


if __name__ == "__main__":
    unittest.main()
