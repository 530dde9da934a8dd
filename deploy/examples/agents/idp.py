"""Stands in for the company's identity provider: `keys` prints its public keys, `login USER` a user's access token. A real
one (Keycloak, Entra, Okta) is registered the same way, by its issuer URL and the address of its keys."""

import base64
import json
import pathlib
import secrets
import subprocess
import sys
import time

ISSUER, AUDIENCE = "https://idp.example.org", sys.argv[2]
key = pathlib.Path(sys.argv[1])


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def openssl(*args, data=None):
    return subprocess.run(["openssl", *args], input=data, capture_output=True, check=True).stdout


if not key.exists():
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(key))
    key.chmod(0o600)

if sys.argv[3] == "keys":
    point = openssl("pkey", "-in", str(key), "-pubout", "-outform", "DER")[-64:]
    print(json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "1",
                                "x": encode(point[:32]), "y": encode(point[32:])}]}))
else:
    now = int(time.time())
    parts = [{"alg": "ES256", "typ": "at+jwt", "kid": "1"},
             {"iss": ISSUER, "sub": sys.argv[4], "aud": [AUDIENCE], "client_id": "portal", "iat": now, "exp": now + 600,
              "auth_time": now, "jti": secrets.token_hex(8), "scope": "orders jobs"}]
    text = ".".join(encode(json.dumps(part).encode()) for part in parts)
    der = openssl("dgst", "-sha256", "-sign", str(key), data=text.encode())
    numbers, at = b"", 2
    for _ in range(2):  # SEQUENCE of two INTEGERs -> r || s
        length = der[at + 1]
        numbers += der[at + 2:at + 2 + length].lstrip(b"\0").rjust(32, b"\0")
        at += 2 + length
    print(f"{text}.{encode(numbers)}")
