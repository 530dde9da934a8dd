"""Looks for secrets where none may be: tokens, assertions and proofs (anything signed as a JWS), refresh tokens and private
keys in logs and audit files (agent identity D.2 14)."""
import base64
import json
import pathlib
import re

JWS = re.compile(rb"(eyJ[A-Za-z0-9_-]{8,})\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{20,}")
KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")
# Public by design: signed heads of the audit chain and receipts grant nothing.
PUBLIC_TYPES = ("signet-audit-head+jwt", "signet-receipt+jwt")


def header_type(part):
    try:
        return json.loads(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))).get("typ", "")
    except ValueError:
        return ""


def leaks_in_text(text):
    """What was found, without the secret itself."""
    found = [f"a JWS of typ {header_type(m.group(1))!r} at byte {m.start()}" for m in JWS.finditer(text)
             if header_type(m.group(1)) not in PUBLIC_TYPES]
    return found + [f"a private key at byte {m.start()}" for m in KEY.finditer(text)]


def leaks_in(folder, secrets=()):
    """All findings in the logs and audit files below `folder`; `secrets`: texts that are known to be secret."""
    found = []
    for path in sorted(pathlib.Path(folder).rglob("*")):
        if path.suffix not in (".log", ".jsonl") or not path.is_file():
            continue
        text = path.read_bytes()
        found += [f"{path.name}: {what}" for what in leaks_in_text(text)]
        found += [f"{path.name}: a secret the test knows" for secret in secrets if secret.encode() in text]
    return found
