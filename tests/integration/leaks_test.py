#!/usr/bin/env python3
"""The scan for secrets finds what it is made for, and nothing else."""
import base64
import json
import pathlib
import tempfile
import unittest

import leaks


def jws(header):
    part = lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()  # noqa: E731
    return f"{part(header)}.{part({'sub': 'spiffe://example.org/x'})}.{'A' * 86}"


class LeaksTest(unittest.TestCase):
    def findings(self, text, secrets=()):
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "server.log").write_text(text)
            return leaks.leaks_in(folder, secrets)

    def test_finds_tokens_and_keys(self):
        for secret in (jws({"alg": "ES256", "typ": "at+jwt"}), jws({"alg": "ES256", "typ": "dpop+jwt"}), jws({"alg": "RS256"}),
                       "-----BEGIN EC PRIVATE KEY-----"):
            self.assertEqual(len(self.findings(f"level=info token={secret} done")), 1, secret[:20])

    def test_finds_a_secret_it_is_told(self):
        self.assertEqual(len(self.findings("refresh=rt-abcdef", ["rt-abcdef"])), 1)

    def test_passes_what_is_public(self):
        self.assertEqual(self.findings(jws({"alg": "ES256", "typ": "signet-audit-head+jwt"}) + " sha-256:" + "a" * 64), [])


if __name__ == "__main__":
    unittest.main()
