"""What a workload sees on an agent's socket, asked through `spire-agent api fetch x509`."""

import base64
import json
import re

from harness import process, toolchain
from harness.results import Failure


def fetch(agent):
    """The SVIDs as the CLI prints them in JSON; an empty list when the agent says there is none."""
    done = process.run([toolchain.spire() / "spire-agent", "api", "fetch", "x509", "-output", "json", "-timeout", "5s",
                        "-socketPath", agent.workload_socket], check=False)
    if done.returncode != 0:
        if "PermissionDenied" in done.stdout + done.stderr:
            return []
        raise Failure((done.stdout + done.stderr).strip())
    return json.loads(done.stdout)["svids"]


def ids(agent):
    """The paths of the SPIFFE IDs served."""
    return {re.sub(r"^spiffe://[^/]+", "", svid["spiffe_id"]) for svid in fetch(agent)}


def serial(agent):
    """The serial number of the first SVID, or an empty text."""
    for svid in fetch(agent):
        pem = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(base64.b64decode(svid["x509_svid"])) + b"-----END CERTIFICATE-----\n"
        return process.run(["openssl", "x509", "-noout", "-serial"], input=pem.decode()).stdout.strip()
    return ""
