"""Certificate authorities of a test cluster, made by openssl."""

from harness.process import run


class Authority:
    """A certificate authority in `folder`; `certificate` is its PEM file."""

    def __init__(self, folder, name="ca"):
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self.name = folder, name
        self.key = ec_key(folder / f"{name}.key")
        self.certificate = folder / f"{name}.crt"
        run(["openssl", "req", "-x509", "-new", "-key", self.key, "-days", "2", "-subj", f"/CN={name}", "-out", self.certificate])

    def issue(self, name, common_name, organizations=(), sans=(), usage="clientAuth", days=1):
        """(certificate, key) files. `sans` as openssl writes them: DNS:name, IP:address."""
        key = ec_key(self._folder / f"{name}.key")
        csr, extensions, certificate = (self._folder / f"{name}.{end}" for end in ("csr", "ext", "crt"))
        lines = ["basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature", f"extendedKeyUsage={usage}"]
        extensions.write_text("\n".join(lines + ([f"subjectAltName={','.join(sans)}"] if sans else [])) + "\n")
        subject = "".join(f"/O={o}" for o in organizations) + f"/CN={common_name}"
        run(["openssl", "req", "-new", "-key", key, "-subj", subject, "-out", csr])
        run(["openssl", "x509", "-req", "-in", csr, "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial",
             "-days", str(days), "-extfile", extensions, "-out", certificate])
        return certificate, key


def ec_key(path):
    run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path])
    path.chmod(0o600)
    return path


def rsa_key(path):
    run(["openssl", "genrsa", "-out", path, "2048"])
    path.chmod(0o600)
    return path
