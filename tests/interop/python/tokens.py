"""Authlib as the client, PyJWT as the resource that verifies: discovery, private_key_jwt, mTLS, exchange by a generic grant,
introspection, revocation. Prints CHECK lines."""

import os
import pathlib
import sys

import jwt
import requests
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
ENV = os.environ
ISSUER, CA = ENV["INTEROP_TOKEN_ISSUER"], ENV["INTEROP_TOKEN_CA"]
RESOURCE, BEARER, SCOPE = ENV["INTEROP_RESOURCE"], ENV["INTEROP_BEARER_RESOURCE"], ENV["INTEROP_SCOPE"]
WORKLOAD = (ENV["INTEROP_AGENT_CERT"], ENV["INTEROP_AGENT_KEY"])
SERVER = (ENV["INTEROP_SERVER_CERT"], ENV["INTEROP_SERVER_KEY"])
failed = 0


def check(name):
    def run(body):
        global failed
        try:
            value = body()
            print(f"CHECK PASS {name}", flush=True)
            return value
        except Exception as error:  # noqa: BLE001
            failed += 1
            print(f"CHECK FAIL {name}: {type(error).__name__}: {error}".replace("\n", " "), flush=True)
            return None
    return run


def session(client_id, cert=None, **options):
    made = OAuth2Session(client_id, **options)
    made.trust_env, made.verify = False, CA  # a REQUESTS_CA_BUNDLE would win over verify
    made.cert = cert
    return made


@check("authlib_discovery")
def metadata():
    answer = requests.get(f"{ISSUER}/.well-known/oauth-authorization-server", verify=CA, timeout=10).json()
    assert answer["issuer"] == ISSUER, answer["issuer"]
    return answer


def mtls():
    # RFC 8705: the certificate is the proof, the form names the client.
    return session(ENV["INTEROP_AGENT_ID"], WORKLOAD, token_endpoint_auth_method="none")


@check("authlib_client_credentials_over_mtls")
def own():
    token = mtls().fetch_token(metadata["token_endpoint"], grant_type="client_credentials", resource=BEARER, scope=SCOPE)
    assert token["token_type"].lower() == "bearer", token["token_type"]
    return token


@check("pyjwt_verifies_the_token")
def verified():
    keys = jwt.PyJWKSet.from_dict(requests.get(metadata["jwks_uri"], verify=CA, timeout=10).json())
    header = jwt.get_unverified_header(own["access_token"])
    assert header["typ"] == "at+jwt", header
    claims = jwt.decode(own["access_token"], keys[header["kid"]].key, algorithms=["ES256"], audience=BEARER, issuer=ISSUER)
    assert claims["client_id"] == ENV["INTEROP_AGENT_ID"], claims


@check("authlib_private_key_jwt")
def console():
    key = pathlib.Path(ENV["INTEROP_CONSOLE_KEY"]).read_text()
    made = session(ENV["INTEROP_CONSOLE_ID"], client_secret=key, token_endpoint_auth_method="private_key_jwt")
    auth = PrivateKeyJWT(token_endpoint=ISSUER, alg="ES256", headers={"kid": ENV["INTEROP_CONSOLE_KID"]})  # aud: the issuer
    made.register_client_auth_method(auth)
    token = made.fetch_token(metadata["token_endpoint"], grant_type="client_credentials", resource=BEARER, scope=SCOPE)
    assert token["access_token"]


@check("authlib_exchange_by_a_generic_grant")
def delegated():
    user = pathlib.Path(ENV["INTEROP_USER_TOKEN_FILE"]).read_text().strip()
    token = mtls().fetch_token(metadata["token_endpoint"], grant_type=EXCHANGE, subject_token=user, subject_token_type=ACCESS_TOKEN,
                               resource=BEARER, scope=SCOPE)
    claims = jwt.decode(token["access_token"], options={"verify_signature": False})
    assert claims["act"]["sub"] == ENV["INTEROP_AGENT_ID"], claims.get("act")
    return token


def active():
    answer = session(ENV["INTEROP_SERVER_ID"], SERVER, token_endpoint_auth_method="none").introspect_token(
        metadata["introspection_endpoint"], token=delegated["access_token"])
    return answer.json()


@check("authlib_introspection")
def introspected():
    answer = active()
    assert answer["active"] is True and answer["act"]["sub"] == ENV["INTEROP_AGENT_ID"], answer


@check("authlib_revocation")
def revoked():
    mtls().revoke_token(metadata["revocation_endpoint"], token=delegated["access_token"])
    assert active() == {"active": False}, active()


print("CHECK DONE", flush=True)
sys.exit(1 if failed else 0)
