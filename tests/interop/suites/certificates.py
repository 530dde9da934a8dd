"""Every shape of certificate the server issues, judged by parsers that are not ours: go-spiffe and openssl."""

import re

from harness import process, toolchain
from harness.results import require
from harness.system import SERVERS, TRUST_DOMAIN
from suites.clients import run_program

# What must be there; a shape the Go program could not get is a failure of its own there.
_SHAPES = ["server", "agent", "agent_renewed", "workload_p256", "workload_p384", "workload_rsa2048",
           "minted_p256", "minted_p384", "minted_rsa2048"]


def run(results, context):
    programs = toolchain.go_programs()
    for key_type in ("ec-p256", "ec-p384", "rsa-2048", "rsa-4096"):
        folder = context.folder(f"shapes-{key_type}")
        server = SERVERS[context.server](folder / "s", ca_key_type=key_type)
        try:
            (folder / "cli.pem").write_text(server.cli.bundle_pem())
            (folder / "cli.json").write_text(server.cli.bundle_spiffe())
            run_program(results, [programs / "shapes", folder], {
                "INTEROP_ADMIN_SOCKET": str(server.admin_socket), "INTEROP_SERVER": server.address,
                "INTEROP_TRUST_DOMAIN": TRUST_DOMAIN}, 90, prefix=f"{key_type}/")
        finally:
            server.stop()
        check_root(results, f"{key_type}/root", folder / "root.pem", key_type)
        for name in _SHAPES:
            check_leaf(results, f"{key_type}/{name}", programs / "verify", folder, name)


def check_root(results, label, root, key_type):
    with results.check(f"{label}_openssl_verify"):
        openssl("verify", "-x509_strict", "-check_ss_sig", "-CAfile", root, root)
    with results.check(f"{label}_openssl_text"):
        text = openssl("x509", "-noout", "-text", "-in", root)
        require(re.search(r"Basic Constraints: critical\s+CA:TRUE", text), "basicConstraints are not critical, CA:TRUE")
        require(re.search(r"Key Usage: critical\s+Certificate Sign(, CRL Sign)?\n", text), "keyUsage is not critical keyCertSign [cRLSign]")
        require(f"URI:spiffe://{TRUST_DOMAIN}\n" in text, "no URI SAN of the trust domain")
        require(f"({key_type.split('-')[1].removeprefix('p')} bit)" in text, f"not a key of type {key_type}")


def check_leaf(results, label, verify, out, name):
    chain, key, root = out / f"{name}.pem", out / f"{name}.key", out / "root.pem"
    for purpose in ("sslserver", "sslclient"):  # a leaf serves both sides of mutual TLS
        with results.check(f"{label}_openssl_{purpose}"):
            openssl("verify", "-x509_strict", "-purpose", purpose, "-CAfile", root, "-untrusted", chain, chain)
    with results.check(f"{label}_openssl_text"):
        text = openssl("x509", "-noout", "-text", "-in", chain)
        require("Version: 3" in text, "not a version 3 certificate")
        require(re.search(r"Basic Constraints: critical\s+CA:FALSE", text), "basicConstraints are not critical, CA:FALSE")
        require(re.search(r"Key Usage: critical\s+Digital Signature", text), "keyUsage is not critical with digitalSignature")
        require(not re.search(r"Certificate Sign|CRL Sign", text), "a leaf may sign certificates")
        require(re.search(r"TLS Web Server Authentication, TLS Web Client Authentication", text), "extendedKeyUsage lacks a side")
        require(len(re.findall(r"URI:", text)) == 1, "not exactly one URI SAN")
        require("Authority Key Identifier" in text and "Subject Key Identifier" in text, "a key identifier is missing")
        number = openssl("x509", "-noout", "-serial", "-in", chain).strip().removeprefix("serial=")
        require(not number.startswith("-") and 0 < int(number, 16) < 1 << 159, f"serial number {number}")  # RFC 5280 4.1.2.2
        subject = openssl("x509", "-noout", "-subject", "-in", chain)
        san = re.search(r"Subject Alternative Name:( critical)?", text)
        require(san and (subject.strip() != "subject=" or san.group(1)), "an empty subject asks for a critical SAN")  # RFC 5280 4.2.1.6
    with results.check(f"{label}_openssl_asn1parse"):
        require("SEQUENCE" in openssl("asn1parse", "-in", chain, "-i"), "nothing parsed")
    if key.exists():
        with results.check(f"{label}_openssl_key_fits"):
            require(openssl("pkey", "-in", key, "-pubout") == openssl("x509", "-noout", "-pubkey", "-in", chain), "the key is another's")
    for bundle in ("root.pem", "bundle.json", "cli.pem", "cli.json"):
        with results.check(f"{label}_go_spiffe_file_{bundle}"):
            done = process.run([verify, chain, out / bundle, TRUST_DOMAIN, *([key] if key.exists() else [])], check=False)
            require(done.stdout.startswith("OK "), done.stdout + done.stderr)


def openssl(*arguments):
    return process.run(["openssl", *arguments]).stdout
