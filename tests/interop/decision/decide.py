"""The decision a second time, written from token-service's rules and sharing nothing with server/token/decision.cc: from a
request and its operands, as plain dictionaries, to what is granted or why not. Standard library only."""

MAX_DEPTH, MAX_ANCESTORS = 5, 12
TTL_BY_RISK = {1: 15 * 60, 2: 10 * 60, 3: 5 * 60}
BEARER, DPOP, MTLS = 1, 2, 3


class Refused(Exception):
    def __init__(self, error, reason=""):
        super().__init__(error)
        self.error, self.reason = error, reason


def refuse_unless(condition, error, reason=""):
    if not condition:
        raise Refused(error, reason)


# --- names ---------------------------------------------------------------------------------------------------------------


def definition(spiffe_id):
    """The path above an instance; only below /agent/<name>."""
    scheme, _, rest = spiffe_id.partition("://")
    segments = rest.split("/")
    valid = scheme == "spiffe" and all(segments) and rest.split("/")[0] == segments[0].lower()
    return spiffe_id.rsplit("/", 1)[0] if valid and len(segments) >= 4 and segments[1] == "agent" else spiffe_id


def is_of(spiffe_id, name):
    return name in (spiffe_id, definition(spiffe_id))


# --- permissions: {(resource, is tool, name): (hash, {field: bounds})} ---------------------------------------------------


def to_set(atoms):
    return {(a["resource"], a.get("tool", False), a["action"]): (a.get("tool_hash", ""), a.get("constraints", {})) for a in atoms}


def to_list(permissions):
    atoms = []
    for (resource, tool, action), (tool_hash, constraints) in sorted(permissions.items()):
        atom = {"resource": resource, "action": action}
        if tool:
            atom |= {"tool": True, "tool_hash": tool_hash}
        if constraints:
            atom["constraints"] = constraints
        atoms.append(atom)
    return atoms


def meet_bounds(a, b):
    """Both at once; None when nothing can satisfy both."""
    both = dict(a)
    for name, bound in b.items():
        if name not in both:
            both[name] = bound
        elif name == "in":
            both[name] = [value for value in both[name] if value in bound]
        elif name in ("min", "from"):
            both[name] = max(both[name], bound)
        elif name in ("max", "until"):
            both[name] = min(both[name], bound)
        elif both[name] != bound:
            return None
    impossible = both.get("in") == [] or (
        "min" in both and "max" in both and both["min"] > both["max"]) or (
        "from" in both and "until" in both and both["from"] >= both["until"])
    return None if impossible else both


def meet(a, b):
    result = {}
    for key in a.keys() & b.keys():
        (hash_a, fields_a), (hash_b, fields_b) = a[key], b[key]
        fields = {name: meet_bounds(fields_a.get(name, {}), fields_b.get(name, {})) for name in fields_a.keys() | fields_b.keys()}
        if hash_a == hash_b and None not in fields.values():
            result[key] = (hash_a, fields)
    return result


def catalogue(resource):
    result = {(resource["uri"], False, action): ("", {}) for actions in resource["scopes"].values() for action in actions}
    return result | {(resource["uri"], True, t["name"]): (t["hash"], {}) for t in resource["tools"] if not t["tombstone"]}


def expand(resource, scope):
    result = {(resource["uri"], False, action): ("", {}) for action in resource["scopes"].get(scope, [])}
    return result | {(resource["uri"], True, t["name"]): (t["hash"], {}) for t in resource["tools"]
                     if scope in t["needs"] and not t["tombstone"]}


# --- times: seconds, "never", "always" -------------------------------------------------------------------------------------


def seconds(value):
    return {"never": float("inf"), "always": float("-inf")}.get(value, value)


# --- the rules, in the order in which the first that fails is told ---------------------------------------------------------


def check_client(r, delegates, has_parent):
    identity, parent = r["identity"], r["parent"]
    refuse_unless(identity, "unauthorized_client")
    refuse_unless(identity["spiffe_id"] == r["client_definition"] and is_of(r["client_id"], r["client_definition"]),
                  "unauthorized_client")
    refuse_unless(identity["active"], "unauthorized_client", "identity_inactive")
    if not delegates:
        alone = not (parent or r["grant"] or r["user"] or r["task"] or r["task_record"] or r["carried"])
        refuse_unless(alone, "invalid_request", "own_authority")
    if not has_parent:
        return
    refuse_unless(parent, "invalid_request")
    refuse_unless(parent["actors"] and parent["sub_profile"] == "user", "invalid_request", "own_authority")
    if r["kind"] != "refresh":
        refuse_unless(seconds(parent["exp"]) > r["now"], "invalid_request", "expired")
        refuse_unless(parent["ancestors"] + 1 <= MAX_ANCESTORS, "access_denied", "depth_exceeded")
    if r["kind"] == "new_hop":
        served = r["parent_resource"]
        serves = served and not served["tombstone"] and served["uri"] == parent["aud"] and r["client_definition"] in served["servers"]
        refuse_unless(serves, "unauthorized_client", "actor_not_permitted")
    else:
        same = r["client_id"] == parent["client_id"] and r["instance"] == parent["instance"]
        refuse_unless(same, "unauthorized_client", "instance_mismatch")


def check_consent(r, has_parent):
    grant, parent, user = r["grant"], r["parent"], r["user"]
    refuse_unless(grant, "invalid_target", "consent_boundary")
    refuse_unless(grant["active"], "invalid_grant", "revoked")
    refuse_unless(seconds(grant["exp"]) > r["now"], "invalid_grant", "expired")
    if has_parent:
        refuse_unless(parent["grant"] == grant["id"], "access_denied", "consent_boundary")
    root = parent["actors"][-1] if has_parent else r["client_id"]
    refuse_unless(is_of(root, grant["identity"]), "unauthorized_client", "actor_not_permitted")
    refuse_unless(is_root(r, has_parent) or r["client_definition"] in grant["actors"], "unauthorized_client", "actor_not_permitted")
    if user:
        refuse_unless(all(user["pair"]) and user["pair"] == grant["user"], "access_denied", "user_mismatch")
        refuse_unless(not has_parent or user["pair"] == parent["user"], "access_denied", "user_mismatch")
        issuers = r["identity"]["user_issuers"]
        refuse_unless(user["pair"][0] in issuers if issuers else r["own_trust_domain"], "access_denied", "actor_not_permitted")


def is_root(r, has_parent):
    return not has_parent or (r["kind"] != "new_hop" and r["parent"]["depth"] == 1)


def check_context(r, has_parent):
    parent, task, user = r["parent"], r["task_record"], r["user"]
    if has_parent and r["session"]:
        refuse_unless(r["session"] == parent["session"], "access_denied", "session_mismatch")
    name = parent["task"] if has_parent else r["task"]
    refuse_unless(r["task"] in ("", name), "access_denied", "task_mismatch")
    if not name:
        refuse_unless(r["kind"] != "refresh", "invalid_grant", "task_mismatch")
        refuse_unless(not task, "access_denied", "task_mismatch")
        return
    alive = task and task["id"] == name and task["open"] and seconds(task["deadline"]) > r["now"]
    refuse_unless(alive, "invalid_grant", "task_closed")
    fits = task["grant"] == r["grant"]["id"] and task["identity"] == r["grant"]["identity"]
    refuse_unless(fits and (not has_parent or parent["task_hash"] == task["hash"]), "access_denied", "task_mismatch")
    if is_root(r, has_parent):
        refuse_unless(r["instance"] and task["instance"] in ("", r["instance"]), "access_denied", "instance_mismatch")
    if user:
        refuse_unless(task["root_subject"] in ("", " ".join(user["pair"])), "access_denied", "user_mismatch")


def changed(r, asked):
    consented = to_set(r["grant"]["atoms"])
    return any(tool and key in consented and consented[key][0] != value[0] for key, value in asked.items() for tool in [key[1]])


def check_target(r, delegates):
    target = r["target"]
    refuse_unless(target and not target["tombstone"] and target["uri"] == r["resource"], "invalid_target")
    refuse_unless(all(c and not c["tombstone"] for c in r["carried"]), "invalid_target")
    if delegates:
        inside = all(c["uri"] in r["grant"]["audiences"] for c in [target, *r["carried"]])
        refuse_unless(inside, "invalid_target", "consent_boundary")
    refuse_unless(not r["unknown_tools"], "invalid_authorization_details", "tool_undeclared")
    refuse_unless(not (delegates and changed(r, to_set(r["named_tools"]))), "invalid_authorization_details", "tool_changed")
    refuse_unless(r["max_calls"] is None or r["max_calls"] >= 1, "invalid_request")
    refuse_unless(not r["x5t"] or r["certificate_not_after"] is not None, "invalid_request", "binding_required")
    strength = MTLS if r["x5t"] else DPOP if r["jkt"] else BEARER
    refuse_unless(strength >= target["minimum_binding"], "invalid_request", "binding_required")


def depth_and_actors(r, delegates, has_parent):
    if not delegates:
        return 1, 1, False, []
    limit = min(r["grant"]["max_depth"], r["identity"]["max_depth"], MAX_DEPTH)
    actors, depth = [r["client_id"]], 1
    if has_parent:
        limit, actors, depth = min(limit, r["parent"]["max_depth"]), r["parent"]["actors"], r["parent"]["depth"]
    if r["kind"] == "new_hop":
        mine = {r["client_definition"], definition(r["client_id"])}
        acted = [any(is_of(actor, name) for name in mine) for actor in actors]
        while acted and acted[0]:
            acted.pop(0)
        refuse_unless(not any(acted), "access_denied", "cycle")
        actors, depth = [r["client_id"], *actors], depth + 1
    refuse_unless(depth <= limit, "access_denied", "depth_exceeded")
    return depth, limit, r["kind"] == "new_hop" and depth / limit >= 0.75, actors


def permissions(r, delegates, has_parent):
    target, user = r["target"], r["user"]
    resources = [target, *r["carried"]]
    asked = to_set(r["requested"])
    granted = asked
    if r["nothing_asked"]:
        granted = {}
        for scope in target["default_scopes"]:
            granted = granted | expand(target, scope)
    stale = bool(delegates and user and r["now"] - seconds(user["rights_at"]) > user["rights_max_age"])
    everything = {}
    for resource in resources:
        everything |= catalogue(resource)
    operands = [everything]
    if has_parent:
        operands.append(to_set(r["parent"]["atoms"]))
    if delegates:
        operands += [to_set(r["grant"]["atoms"]), to_set(r["identity"]["ceiling"])]
        operands.append(to_set(user["rights"]) if user and not stale else {})
    else:
        operands.append(to_set(r["identity"]["own_authority"]))
    if r["task_record"]:
        operands.append(to_set(r["task_record"]["atoms"]))
    for operand in operands:
        granted = meet(granted, operand)
    if not any(resource == r["resource"] for resource, _, _ in granted):
        refuse_unless(not stale, "invalid_scope", "rights_stale")
        refuse_unless(not (delegates and changed(r, asked)), "invalid_authorization_details", "tool_changed")
        raise Refused("invalid_scope")
    names = [*target["scopes"], *(scope for tool in target["tools"] for scope in tool["needs"])]
    scopes = []
    for scope in names:
        whole = expand(target, scope)
        if scope not in scopes and whole and meet(whole, granted) == whole:
            scopes.append(scope)
    return granted, " ".join(scopes)


def eighth(calls):
    return -(-calls // 8)


def quota(r, has_parent):
    bounds = [] if r["max_calls"] is None else [r["max_calls"]]
    if has_parent and r["parent"]["calls"] is not None:
        of_parent = r["parent"]["calls"]
        if not bounds and r["kind"] != "refresh":
            bounds.append(eighth(of_parent))
        bounds.append(of_parent)
    task = r["task_record"]
    if task and task["budget"] > 0:
        if not bounds:
            bounds.append(eighth(task["budget"]))
        bounds.append(task["budget"] - task["reserved"])
    calls = min(bounds, default=None)
    refuse_unless(calls is None or calls >= 1, "access_denied", "budget_exhausted")
    return calls


def checkpoint(r, has_parent):
    task, user, now = r["task_record"], r["user"], r["now"]
    reauth = float("inf")
    if has_parent:
        reauth = seconds(r["parent"]["reauth_at"])
    elif user:
        since = user["rights_at"] if user["auth_time"] == "always" else user["auth_time"]
        reauth = min(seconds(since), now) + user["reauth_after"]
    if task:
        reauth = min(reauth, seconds(task["reauth_at"]))
    refuse_unless(reauth > now, "invalid_grant", "reauthorization_required")
    return reauth


def times(r, granted, reauth, delegates, has_parent):
    task, now = r["task_record"], r["now"]
    tools = {(c["uri"], t["name"]): t["risk"] for c in [r["target"], *r["carried"]] for t in c["tools"]}
    risk = max([r["identity"]["risk"], *(tools[resource, name] for resource, tool, name in granted if tool)])
    bounds = [(now + min(r["target"]["ttl"], r["identity"]["ttl"], TTL_BY_RISK[risk]), "ttl")]
    if r["kind"] == "refresh":
        bounds.append((seconds(r["refresh_not_after"]), "parent"))
    elif has_parent:
        bounds.append((seconds(r["parent"]["exp"]), "parent"))
    if delegates:
        bounds.append((seconds(r["grant"]["exp"]), "grant"))
    if task:
        bounds.append((seconds(task["deadline"]), "task"))
    bounds.append((reauth, "reauth_at"))
    if r["certificate_not_after"] is not None:
        bounds.append((seconds(r["certificate_not_after"]), "certificate"))
    exp, bound_by = min(bounds, key=lambda bound: bound[0])
    refuse_unless(exp > now, "access_denied", "expired")
    return exp, bound_by, "never" if reauth == float("inf") else reauth


def decide(r):
    delegates = r["kind"] != "client_credentials"
    has_parent = r["kind"] in ("new_hop", "narrow", "refresh")
    try:
        check_client(r, delegates, has_parent)
        if delegates:
            check_consent(r, has_parent)
            check_context(r, has_parent)
        check_target(r, delegates)
        depth, max_depth, near, actors = depth_and_actors(r, delegates, has_parent)
        reauth = checkpoint(r, has_parent)
        granted, scope = permissions(r, delegates, has_parent)
        calls = quota(r, has_parent)
        exp, bound_by, reauth = times(r, granted, reauth, delegates, has_parent)
    except Refused as refused:
        return {"error": refused.error, "reason": refused.reason}
    return {"granted": to_list(granted), "scope": scope, "exp": exp, "bound_by": bound_by, "depth": depth, "max_depth": max_depth,
            "near_limit": near, "calls": calls, "reauth_at": reauth, "actors": actors}
