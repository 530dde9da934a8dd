"""Keycloak as the users' identity provider: a realm with a user, clients, an audience reserved for exchange, and scopes."""

import json
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request

from . import toolchain
from .process import Daemon, free_port, run, wait_until
from .results import Failure

_FEATURES = ("spiffe,client-auth-federated,token-exchange,token-exchange-delegation,parameterized-scopes,"
             "identity-assertion-jwt,jwt-authorization-grant,kubernetes-service-accounts,dpop")


def server_certificate(folder, name="localhost"):
    """A self-signed certificate for `name` and 127.0.0.1, which is its own root: (certificate, key)."""
    folder.mkdir(parents=True, exist_ok=True)
    certificate, key = folder / "tls.pem", folder / "tls.key"
    run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name},IP:127.0.0.1", "-keyout", key, "-out", certificate])
    return certificate, key


class Keycloak:
    """One process, one realm `users`. `issuer` is its `iss`; `ca` verifies it."""

    REALM, USER, PASSWORD, CLIENT = "users", "alice", "correct horse", "portal"

    def __init__(self, folder, exchange_audience, scopes, trust=()):
        """`trust`: PEM roots of https servers that Keycloak itself calls."""
        home = toolchain.keycloak()
        folder.mkdir(parents=True, exist_ok=True)
        self.ca, key = server_certificate(folder)
        self.port = free_port()
        management = free_port()
        env = {"KC_BOOTSTRAP_ADMIN_USERNAME": "admin", "KC_BOOTSTRAP_ADMIN_PASSWORD": "admin",
               "JAVA_OPTS_KC_HEAP": "-Xms64m -Xmx512m"}
        self.daemon = Daemon("keycloak", [
            home / "bin" / "kc.sh", "start-dev", "--db", "dev-mem", "--https-port", self.port, "--https-certificate-file", self.ca,
            "--https-certificate-key-file", key, "--http-enabled", "false", "--hostname", f"https://localhost:{self.port}",
            "--http-management-port", management, "--features", _FEATURES,
            *(["--truststore-paths", ",".join(map(str, trust))] if trust else [])], folder / "keycloak.log", env)
        self.base = f"https://localhost:{self.port}"
        self.issuer = f"{self.base}/realms/{self.REALM}"
        self._context = ssl.create_default_context(cafile=str(self.ca))
        self._admin_token, self._admin_until = "", 0.0
        wait_until("a Keycloak that answers", lambda: self._get("/realms/master"), timeout=240, daemons=[self.daemon], every=1)
        self._create_realm(exchange_audience, scopes)

    def _get(self, path):
        return self._call("GET", path)

    def _call(self, method, path, body=None, form=None, admin=False):
        data, headers = None, {}
        if form is not None:
            data = urllib.parse.urlencode(form).encode()
        elif body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        if admin:
            headers["Authorization"] = f"Bearer {self._admin()}"
        request = urllib.request.Request(self.base + path, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30, context=self._context) as answer:
                text = answer.read()
                return json.loads(text) if text else {"location": answer.headers.get("Location", "")}
        except urllib.error.HTTPError as error:
            raise Failure(f"Keycloak {method} {path} answered {error.code}: {error.read(600).decode(errors='replace')}") from None
        except OSError as error:
            raise Failure(f"Keycloak {method} {path}: {error}") from None

    def _admin(self):
        if time.monotonic() > self._admin_until:
            answer = self._call("POST", "/realms/master/protocol/openid-connect/token", form={
                "client_id": "admin-cli", "username": "admin", "password": "admin", "grant_type": "password"})
            self._admin_token, self._admin_until = answer["access_token"], time.monotonic() + 30
        return self._admin_token

    def admin(self, method, path, body=None):
        return self._call(method, f"/admin/realms/{self.REALM}{path}", body=body, admin=True)

    def _create_realm(self, audience, scopes):
        self._call("POST", "/admin/realms", body={
            "realm": self.REALM, "enabled": True, "sslRequired": "none", "accessTokenLifespan": 600,
            "users": [{"username": self.USER, "enabled": True, "email": "alice@example.org", "emailVerified": True,
                       "firstName": "Alice", "lastName": "Example",
                       "credentials": [{"type": "password", "value": self.PASSWORD, "temporary": False}]}],
            "clients": [
                {"clientId": self.CLIENT, "publicClient": True, "directAccessGrantsEnabled": True, "enabled": True,
                 "protocolMappers": [{"name": "exchange", "protocol": "openid-connect",
                                      "protocolMapper": "oidc-audience-mapper",
                                      "config": {"included.custom.audience": audience, "access.token.claim": "true",
                                                 "id.token.claim": "false"}}]},
                # The same user through a client whose tokens are not meant for exchange.
                {"clientId": "elsewhere", "publicClient": True, "directAccessGrantsEnabled": True, "enabled": True},
            ]}, admin=True)
        (client,) = self.admin("GET", f"/clients?clientId={self.CLIENT}")
        for scope in scopes:
            self.admin("POST", "/client-scopes", {"name": scope, "protocol": "openid-connect",
                                                  "attributes": {"include.in.token.scope": "true"}})
        for scope in self.admin("GET", "/client-scopes"):
            if scope["name"] in scopes:
                self.admin("PUT", f"/clients/{client['id']}/optional-client-scopes/{scope['id']}")

    def tokens(self, scope="", client=None):
        """A real user's tokens: access_token, id_token when scope names openid."""
        return self._call("POST", f"/realms/{self.REALM}/protocol/openid-connect/token", form={
            "client_id": client or self.CLIENT, "username": self.USER, "password": self.PASSWORD,
            "grant_type": "password", "scope": scope})

    def trust_spiffe(self, trust_domain, bundle_endpoint, spiffe_id, client="workload"):
        """Lets JWT-SVIDs of `spiffe_id` authenticate the client `client`."""
        self.admin("POST", "/identity-provider/instances", {
            "alias": "spiffe", "providerId": "spiffe", "enabled": True,
            "config": {"trustDomain": trust_domain, "issuer": trust_domain, "bundleEndpoint": bundle_endpoint}})
        self.admin("POST", "/clients", {
            "clientId": client, "enabled": True, "serviceAccountsEnabled": True, "standardFlowEnabled": False,
            "clientAuthenticatorType": "federated-jwt",
            "attributes": {"jwt.credential.issuer": "spiffe", "jwt.credential.sub": spiffe_id}})

    def client_credentials(self, assertion, client=None):
        """Keycloak's answer to a JWT-SVID as client assertion."""
        form = {"grant_type": "client_credentials", "client_assertion": assertion,
                "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"}
        if client:
            form["client_id"] = client
        return self._call("POST", f"/realms/{self.REALM}/protocol/openid-connect/token", form=form)

    def stop(self):
        return self.daemon.stop()
