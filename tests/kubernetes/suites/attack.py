"""Whatever a pod does to look like another, and whatever dies meanwhile: never a foreign selector (W1 to W6).

Each of the victim's selectors has an entry of its own, so one of them in the wrong hands shows as an SVID there.
"""

import json
import os
import pathlib
import random
import re
import secrets
import subprocess
import sys
import threading
import time
import uuid

from harness.process import run as run_program
from harness.process import wait_until
from harness.results import Failure, require

from cluster import images, toolchain
from cluster.signet import SOCKET, SOCKET_MOUNT, SOCKET_VOLUME

CALLER = pathlib.Path(__file__).resolve().parent.parent / "attack" / "caller.py"
CGROUPS = pathlib.Path("/sys/fs/cgroup")
HOST_CGROUPS = "/host/cgroup"
NAMESPACE = "attack"


def run(results, context):
    with results.check("starts", abort=True):
        attack = Attack(context)
    try:
        for name, check in CHECKS.items():
            with results.check(name):
                check(attack)
    finally:
        attack.node.delete_namespace(NAMESPACE)


class Attack:
    """A pod that holds identities, and pods that want them."""

    def __init__(self, context):
        self.node, self.signet = context.node(), context.signet()
        self.node.import_image(images.workload(context.folder("images")))
        self.shared = context.folder("attack")
        self.node.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        for account in ("victim", "attacker"):
            self.node.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": NAMESPACE}})
        self.victim = self.start("victim", "victim")
        self.attacker = self.start("attacker", "attacker")
        # May do all but enter the host's namespaces; its own cgroup it can write to.
        self.privileged = self.start("privileged", "attacker", {"privileged": True})
        self.victim_id = self.victim["status"]["containerStatuses"][0]["containerID"].partition("://")[2]
        self.victim_uid = self.victim["metadata"]["uid"]
        create = self.signet.create_entry
        self.mine = create("attacker", f"k8s:ns:{NAMESPACE}", "k8s:sa:attacker")
        self.theirs = sorted([
            create("victim/sa", "k8s:sa:victim"), create("victim/uid", f"k8s:pod-uid:{self.victim_uid}"),
            create("victim/name", "k8s:pod-name:victim"), create("victim/label", "k8s:pod-label:app:victim"),
            create("victim/container", f"k8s:ns:{NAMESPACE}", "k8s:container-name:victim")])
        wait_until("the victim's SVIDs", lambda: self.call(cgroups_of(self.pid(self.victim)))["ids"] == self.theirs)
        wait_until("the attackers' SVID", lambda: self.call(cgroups_of(self.pid(self.attacker)))["ids"] == [self.mine])

    def start(self, name, account, security=None, command=("sleep", "100000"), volumes=(), mounts=(), image=images.WORKLOAD, labels=None):
        """A pod that sleeps, sees the host's cgroups and the Workload API."""
        self.node.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": name, **(labels or {})}}, "spec": {
            "serviceAccountName": account, "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False,
            "containers": [{"name": name, "image": image, "imagePullPolicy": "Never", "command": list(command),
                            "securityContext": security or {},
                            "volumeMounts": [SOCKET_MOUNT, {"name": "cgroup", "mountPath": HOST_CGROUPS, "readOnly": True}, *mounts]}],
            "volumes": [SOCKET_VOLUME, {"name": "cgroup", "hostPath": {"path": str(CGROUPS), "type": "Directory"}}, *volumes]}})
        return self.node.wait_pods(NAMESPACE, f"app={name}")[0]

    def pid(self, pod):
        return self.node.container_pid(pod)

    def caller(self, *words, timeout=90):
        done = run_program([sys.executable, CALLER, SOCKET, *words], timeout=timeout)
        return json.loads(done.stdout)

    def call(self, cgroups):
        """What a process in these cgroups is given."""
        return self.caller("call", *cgroups)

    def inside(self, pod, script):
        """What a script in a pod prints, and the SPIFFE IDs that `signet svid fetch` in it is given."""
        done = self.node.exec(NAMESPACE, pod["metadata"]["name"], "sh", "-c", script, check=False)
        return done.stdout + done.stderr, sorted(re.findall(r'"spiffe_?[Ii]d": *"([^"]+)"', done.stdout))


def hierarchies():
    """Where cgroups are mounted: one place on a pure v2 machine, one for each controller on others."""
    found = [p for p in (CGROUPS, *sorted(CGROUPS.iterdir())) if (p / "cgroup.procs").is_file()]
    return [CGROUPS] if CGROUPS in found else [p for p in found if not p.is_symlink()]


def path_of(pid):
    """The path of its cgroup, which kubelet and runtime make the same in all hierarchies."""
    return pathlib.Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii").splitlines()[-1].split(":", 2)[2]


def cgroups_of(pid):
    return in_all(path_of(pid))


def in_all(path):
    return [str(folder) for h in hierarchies() if (folder := h / path.lstrip("/")).is_dir()]


class Made:
    """A cgroup of that path in all hierarchies, or in those given; a context: gone at its end, with what still runs in it."""

    def __init__(self, path, among=None):
        self._folders, self._made = [h / path.lstrip("/") for h in among or hierarchies()], []

    def __enter__(self):
        for folder in self._folders:
            for step in [*reversed(folder.relative_to(CGROUPS).parents), folder.relative_to(CGROUPS)]:
                place = CGROUPS / step
                if place.exists():
                    continue
                place.mkdir()
                self._made.append(place)
                for limit in ("cpuset.cpus", "cpuset.mems"):  # empty at first in version 1: no process may enter
                    if (place / limit).exists() and (place.parent / limit).read_text().strip():
                        (place / limit).write_text((place.parent / limit).read_text())
        return [str(folder) for folder in self._folders]

    def __exit__(self, *_):
        def gone():
            for place in reversed(self._made):
                if place.exists():
                    for pid in (place / "cgroup.procs").read_text().split():
                        kill(int(pid))
                    remove(place)
            return not any(place.exists() for place in self._made)
        wait_until("an end of the cgroups made", gone)


def kill(pid):
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        pass


def remove(place):
    try:
        place.rmdir()
    except OSError:
        pass  # not empty yet


def expect(found, wanted, where):
    require(found == wanted, f"{where}: given {found}, not {wanted}")


# -- checks ---------------------------------------------------------------------------------------------------------------
def own_user_and_mount_namespace(attack):
    """W5; SPIRE's #7060 and #7288. The victim's cgroup bound over its own, and its proc files forged, in namespaces where it may."""
    path = path_of(attack.pid(attack.victim))
    forged = "".join(f"{line.rpartition(':')[0]}:{path}\n"
                     for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines())
    script = f"""
mount -t tmpfs none /tmp
for h in {HOST_CGROUPS} {HOST_CGROUPS}/*; do
  name=${{h#{HOST_CGROUPS}}}
  [ -e $h{path}/cgroup.procs ] && mount --bind $h{path} /sys/fs/cgroup$name && echo "bound $name"
done
printf '%s' '{forged}' > /tmp/cgroup
mount --bind /tmp/cgroup /proc/$$/cgroup && echo forged
grep -q {attack.victim_uid} /proc/self/mountinfo && echo "mountinfo shows the victim"
exec signet svid fetch --output json"""
    text, ids = attack.inside(attack.attacker, f"unshare -U -r -m sh -c {quote(script)}")
    require("mountinfo shows the victim" in text and "forged" in text, f"the attack itself did not work: {text}")
    expect(ids, [attack.mine], "in its own user and mount namespace")


def nested_from_inside(attack):
    """W6. A privileged container makes cgroups below its own, named like the victim's, and enters them."""
    below = f"kubepods/besteffort/pod{attack.victim_uid}/{attack.victim_id}"
    script = f"""
for h in /sys/fs/cgroup /sys/fs/cgroup/*; do
  [ -w $h/cgroup.procs ] || continue
  mkdir -p $h/{below} || continue
  d=$h; for part in $(echo {below} | tr / ' '); do
    for limit in cpuset.cpus cpuset.mems; do [ -e $d/$limit ] && cat $d/$limit > $d/$part/$limit; done; d=$d/$part
  done
  echo $$ > $h/{below}/cgroup.procs && echo "entered $h"
done
signet svid fetch --output json
for h in /sys/fs/cgroup /sys/fs/cgroup/*; do [ -e $h/{below} ] && echo $$ > $h/cgroup.procs; done 2> /dev/null
true"""
    text, ids = attack.inside(attack.privileged, script)
    require("entered" in text, f"the attack itself did not work: {text}")
    expect(ids, [attack.mine], "in nested cgroups made inside")


def nested_names(attack):
    """W6: no name below a container's cgroup changes the answer, in one hierarchy or in all."""
    own = path_of(attack.pid(attack.attacker))
    pod, container = f"pod{attack.victim_uid}", attack.victim_id
    other = f"{secrets.token_hex(32)}"
    names = (f"kubepods/besteffort/{pod}/{container}", f"{pod}/{container}", container, f"crio-{container}.scope", other,
             f"cri-containerd-{container}.scope", f"system.slice/crio-{container}.scope", f"docker/{container}", "kubepods",
             f"kubepods.slice/kubepods-{pod.replace('-', '_')}.slice/cri-containerd-{container}.scope")
    for name in names:
        with Made(f"{own}/{name}") as cgroups:
            expect(attack.call(cgroups)["ids"], [attack.mine], f"in {name!r} below its own")
    for hierarchy in hierarchies():
        with Made(f"{own}/{names[0]}", [hierarchy]) as cgroups:
            rest = [c for c in in_all(own) if not c.startswith(str(hierarchy) + "/")]
            expect(attack.call([*rest, *cgroups])["ids"], [attack.mine], f"in {hierarchy.name} alone")


def names_outside_of_the_kubelets_part(attack):
    """W6: a slice that is delegated to a user of the host, with pods and containers of its own making."""
    pod, container = f"pod{attack.victim_uid}", attack.victim_id
    for name in (f"user.slice/kubepods/besteffort/{pod}/{container}", f"{pod}/{container}", f"besteffort/{pod}/{container}", f"docker/{container}",
                 f"user.slice/crio-{container}.scope", f"machine.slice/kubepods.slice/kubepods-{pod.replace('-', '_')}.slice/crio-{container}.scope",
                 f"kubepods-evil/besteffort/{pod}/{container}", container):
        with Made(name) as cgroups:
            expect(attack.call(cgroups)["ids"], [], f"in {name}")


def conflicting_cgroups(attack):
    """One hierarchy says victim, the others attacker, or a pod and no container of it: refused, and no one of the two is chosen."""
    victim, attacker = path_of(attack.pid(attack.victim)), path_of(attack.pid(attack.attacker))
    for hierarchy in hierarchies() if len(hierarchies()) > 1 else ():
        mixed = [str(h / (victim if h == hierarchy else attacker).lstrip("/")) for h in hierarchies()]
        expect(attack.call(mixed)["ids"], [], f"the victim's in {hierarchy.name} alone")
    with Made(f"{os.path.dirname(victim)}/{'e' * 63}") as cgroups:
        expect(attack.call(cgroups)["ids"], [], "in the victim's pod, in no container")
    expect(attack.call(in_all(os.path.dirname(victim)))["ids"], [], "in the victim's pod itself")


def pid_reuse(attack):
    """W1, W3: the process that connected is dead, its number is a process of the victim's now; another holds the socket."""
    attacker, victim = (",".join(cgroups_of(attack.pid(pod))) for pod in (attack.attacker, attack.victim))
    for agent, when in (("0", "after the agent accepted"), (str(attack.signet.agent_pid()), "before the agent accepted")):
        answer = attack.caller("reuse", agent, attacker, victim)
        require(answer["reused"], f"the attack itself did not work: {answer}")
        expect(answer["ids"], [], f"number reused {when}")


def pid_reuse_in_turn(attack):
    """Attacker and victim take turns with one number; half of the attackers are gone before their answer comes."""
    attacker, victim = (",".join(cgroups_of(attack.pid(pod))) for pod in (attack.attacker, attack.victim))
    answer = attack.caller("race", "60", attacker, victim, timeout=180)
    require(set(answer["attacker"]) <= {attack.mine}, f"an attacker was given {answer['attacker']}")
    require(answer["victim"] == attack.theirs and not answer["victim_refused"], f"the victim's own processes: {answer}")


def pod_that_nobody_knows(attack):
    """A cgroup as of a pod that the API server never heard of: it waits, gets nothing, and delays nobody; nor does its death."""
    path = f"/kubepods/besteffort/pod{uuid.uuid4()}/{secrets.token_hex(32)}"
    with Made(path) as cgroups:
        with subprocess.Popen([sys.executable, CALLER, SOCKET, "crowd", "40", *cgroups], stdout=subprocess.PIPE, text=True) as crowd:
            answer = attack.call(cgroups_of(attack.pid(attack.victim)))
            expect(answer["ids"], attack.theirs, "the victim meanwhile")
            require(answer["seconds"] < 2, f"the victim waited {answer['seconds']:.1f} s")
            expect(json.loads(crowd.communicate(timeout=90)[0])["ids"], [], "in a pod that nobody knows")
    expect(attack.call(cgroups_of(attack.pid(attack.victim)))["ids"], attack.theirs, "the victim afterwards")


def pods_that_die_during_attestation(attack):
    """Pods that fetch without end are deleted at any moment, with others in their place: each was given its own identity alone."""
    count, rounds = 6, 2
    ids = {f"churn{n}": attack.signet.create_entry(f"churn/{n}", f"k8s:pod-label:app:churn{n}") for n in range(count)}
    output = {"name": "output", "hostPath": {"path": str(attack.shared), "type": "Directory"}}
    generator = random.Random(5)

    def live(name):
        for turn in range(rounds):
            loop = f"while :; do signet svid fetch --output json; done > /output/{name}-{turn} 2>&1"
            attack.start(name, "attacker", None, ("sh", "-c", loop), [output], [{"name": "output", "mountPath": "/output"}])
            wait_until(f"an SVID of {name}", lambda: ids[name] in text_of(attack.shared / f"{name}-{turn}"), timeout=60)
            time.sleep(generator.uniform(0, 0.5))
            attack.node.kubectl("-n", NAMESPACE, "delete", "pod", name, "--grace-period=0", "--force", "--wait=true", "--timeout=60s", check=False)

    failures = []

    def attempt(name):
        try:
            live(name)
        except Failure as error:
            failures.append(f"{name}: {error}")

    threads = [threading.Thread(target=attempt, args=(name,)) for name in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    require(not failures, "; ".join(failures))
    for name, own in ids.items():
        for turn in range(rounds):
            given = set(re.findall(r'"spiffe_?[Ii]d": *"([^"]+)"', text_of(attack.shared / f"{name}-{turn}")))
            expect(given - {own, attack.mine}, set(), f"{name}, life {turn}")


def image_tags_that_lie(attack):
    """W7; SPIRE's #4276. Two tags of one image: the kubelet reports either. The digest counts, a tag only where the pod asked for it too."""
    repository, digest = toolchain.IMAGE.rpartition(":")[0], (toolchain.image().parent / "digest").read_text().strip()
    attack.node.ctr("images", "tag", toolchain.IMAGE, f"{repository}@{digest}")  # as an image that was pulled has it
    create = attack.signet.create_entry
    by_digest = create("tagged/digest", "k8s:pod-label:tagged:yes", f"k8s:container-image:{repository}@{digest}")
    by_tag = {tag: create(f"tagged/{tag.rpartition(':')[2]}", f"k8s:container-image:{tag}") for tag in (toolchain.IMAGE, toolchain.SAME_IMAGE)}
    lied = 0
    for number, tag in enumerate(by_tag):
        pod = attack.start(f"tagged{number}", "attacker", None, ("signet", "svid", "watch"), image=tag, labels={"tagged": "yes"})
        reported = pod["status"]["containerStatuses"][0]["image"]
        lied += reported != tag
        ids = wait_until("an SVID by digest", lambda p=pod: by_digest in (found := attack.call(cgroups_of(attack.pid(p)))["ids"]) and found)
        expect(ids, sorted([attack.mine, by_digest, *([by_tag[tag]] if reported == tag else [])]), f"asked for {tag}, reported as {reported}")
    require(lied == 1, f"of two tags with one digest the kubelet reported {lied} otherwise, and one was to be seen")


def the_agent_lives(attack):
    """None of it ended the agent."""
    status = attack.signet.agent_pod()["status"]["containerStatuses"][0]
    require(status["restartCount"] == 0, f"the agent was restarted: {status['lastState']}")


def text_of(path):
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""


def quote(text):
    return "'" + text.replace("'", "'\\''") + "'"


CHECKS = {check.__name__: check for check in (
    own_user_and_mount_namespace, nested_from_inside, nested_names, names_outside_of_the_kubelets_part, conflicting_cgroups, pid_reuse,
    pid_reuse_in_turn, pod_that_nobody_knows, pods_that_die_during_attestation, image_tags_that_lie, the_agent_lives)}
