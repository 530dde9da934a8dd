"""The API server itself: what the other suites expect of it is true of the real one."""

import time

from cluster.api_server import Answer, claims_of
from harness.process import wait_until
from harness.results import require


def run(results, context):
    with results.check("starts", abort=True):
        api = context.api()
    api.make_node("api-node")
    pod = api.make_pod("api", "one", "api-node", service_account="agent")
    with results.check("bound_token_names_pod_and_node"):
        token = api.token("api", "agent", "spire-server", pod=pod)
        claims = claims_of(token)["kubernetes.io"]
        require(claims["pod"]["uid"] == pod["metadata"]["uid"], f"claims {claims}")
        require(claims["node"]["name"] == "api-node", f"claims {claims}")
        status = review(api, token, "spire-server")
        require(status.get("authenticated"), f"refused: {status}")
        require(status["user"]["extra"]["authentication.kubernetes.io/pod-name"] == ["one"], f"review says {status}")
    with results.check("other_audience_is_refused"):
        require(not review(api, api.token("api", "agent", "other", pod=pod), "spire-server").get("authenticated"), "accepted")
    with results.check("self_signed_claims_are_accepted_until_they_expire"):
        good = claims_of(api.token("api", "agent", "spire-server", pod=pod))
        require(review(api, api.sign_token(good), "spire-server").get("authenticated"), "a token signed by the suite is refused")
        # go-jose gives a minute of grace.
        old = {**good, "exp": int(time.time()) - 120, "iat": int(time.time()) - 720, "nbf": int(time.time()) - 720}
        require(not review(api, api.sign_token(old), "spire-server").get("authenticated"), "an expired token is accepted")
    with results.check("rbac_is_on"):
        try:
            api.get("/api/v1/nodes", token=api.token("api", "agent"))
            require(False, "a service account without a role lists nodes")
        except Answer as error:
            require(error.code == 403, str(error))
    with results.check("deleted_pod_invalidates_its_token"):
        api.delete_pod("api", "one")
        wait_until("a refusal", lambda: not review(api, token, "spire-server").get("authenticated"), timeout=40, every=0.5)


def review(api, token, audience):
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token, "audiences": [audience]}}
    return api.post("/apis/authentication.k8s.io/v1/tokenreviews", body)["status"]
