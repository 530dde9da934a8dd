"""A workload on the Python `spiffe` package: one-shot calls, both sources, JWT validation, one rotation seen.

Expects SPIFFE_ENDPOINT_SOCKET, INTEROP_SPIFFE_ID and INTEROP_TRUST_DOMAIN; prints CHECK lines (see go/checks).
"""

import datetime
import logging
import os
import sys
import threading

from spiffe import JwtSource, JwtSvid, SpiffeId, TrustDomain, WorkloadApiClient, X509Source

AUDIENCE = "python-audience"
WANT = SpiffeId(os.environ["INTEROP_SPIFFE_ID"])
TRUST_DOMAIN = TrustDomain(os.environ["INTEROP_TRUST_DOMAIN"])
TIMEOUT = float(os.environ.get("INTEROP_TIMEOUT_SECONDS", "90"))
failed = False


def check(name, body):
    """Runs `body`; an exception or a returned text is the failure's reason. Returns whether it passed."""
    global failed
    try:
        why = body()
    except Exception as error:  # noqa: BLE001 - any exception is this check's failure
        why = f"{type(error).__name__}: {error}"
    if why:
        failed = True
        print(f"CHECK FAIL {name}: {' '.join(str(why).split())}", flush=True)
    else:
        print(f"CHECK PASS {name}", flush=True)
    return not why


def equal(what, got, want):
    return None if got == want else f"{what} is {got!r}, want {want!r}"


def refused(call):
    try:
        call()
    except Exception:  # noqa: BLE001 - which class depends on the library; that it refuses is the point
        return None
    return "it was accepted"


def one_shot(client):
    svid = client.fetch_x509_svid(timeout=10)
    check("fetch_x509_svid", lambda: equal("SPIFFE ID", svid.spiffe_id, WANT))
    check("x509_valid_now", lambda: None if svid.leaf.not_valid_before_utc <= datetime.datetime.now(datetime.timezone.utc)
          <= svid.leaf.not_valid_after_utc else f"valid to {svid.leaf.not_valid_after_utc}")
    check("x509_key_fits", lambda: equal("public key", svid.private_key.public_key(), svid.leaf.public_key()))
    context = client.fetch_x509_context(timeout=10)
    bundle = context.x509_bundle_set.get_bundle_for_trust_domain(TRUST_DOMAIN)
    check("fetch_x509_context", lambda: None if bundle and bundle.x509_authorities else "no authority in the bundle")
    check("leaf_signed_by_bundle", lambda: None if any(signed(c, svid.leaf) for c in bundle.x509_authorities)
          else "by none of its authorities")
    check("fetch_x509_bundles", lambda: None if client.fetch_x509_bundles(timeout=10).get_bundle_for_trust_domain(TRUST_DOMAIN)
          else "own trust domain is not among them")

    jwt = client.fetch_jwt_svid({AUDIENCE}, timeout=10)
    check("fetch_jwt_svid", lambda: equal("SPIFFE ID", jwt.spiffe_id, WANT) or equal("audience", set(jwt.audience), {AUDIENCE}))
    check("validate_jwt_svid", lambda: equal("SPIFFE ID", client.validate_jwt_svid(jwt.token, AUDIENCE, timeout=10).spiffe_id, WANT))
    check("validate_jwt_svid_wrong_audience", lambda: refused(lambda: client.validate_jwt_svid(jwt.token, "other", timeout=10)))
    jwt_bundle = client.fetch_jwt_bundles(timeout=10).get_bundle_for_trust_domain(TRUST_DOMAIN)
    check("fetch_jwt_bundles", lambda: None if jwt_bundle and jwt_bundle.jwt_authorities else "no authority in the bundle")
    check("parse_and_validate_locally", lambda: equal(
        "SPIFFE ID", JwtSvid.parse_and_validate(jwt.token, jwt_bundle, {AUDIENCE}).spiffe_id, WANT))


def signed(authority, leaf):
    try:
        leaf.verify_directly_issued_by(authority)
    except Exception:  # noqa: BLE001 - another authority may have
        return False
    return True


def sources():
    with JwtSource(timeout_in_seconds=10) as source:
        svid = source.fetch_svid({"a", "b"}, subject=WANT, timeout=10)
        check("jwtsource_two_audiences", lambda: equal("audience", set(svid.audience), {"a", "b"}))
        check("jwtsource_bundle", lambda: None if source.get_bundle_for_trust_domain(TRUST_DOMAIN) else "none")

    with X509Source(timeout_in_seconds=10) as source:
        first = source.get_x509_context().default_svid.leaf
        rotated = threading.Event()

        def on_update():
            if source.get_x509_context().default_svid.leaf.serial_number != first.serial_number:
                rotated.set()

        source.subscribe_for_updates(on_update)
        on_update()
        check("x509source_rotation", lambda: None if rotated.wait(TIMEOUT) else f"none in {TIMEOUT} s")
        second = source.get_x509_context().default_svid
        check("rotated_same_id", lambda: equal("SPIFFE ID", second.spiffe_id, WANT))
        check("rotated_before_expiry", lambda: None if datetime.datetime.now(datetime.timezone.utc) < first.not_valid_after_utc
              else "the old certificate had run out")
        check("rotated_new_key", lambda: None if second.leaf.public_key() != first.public_key() else "the key is the old one")


def main():
    logging.disable(logging.CRITICAL)
    with WorkloadApiClient() as client:
        check("client_calls", lambda: one_shot(client))
    check("sources", sources)
    print("CHECK DONE", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
