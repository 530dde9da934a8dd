"""Faults with real processes: kill -9 at each failpoint, the server away, damaged files, folders that refuse."""
import concurrent.futures
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import tempfile
import time
import unittest

from system import Daemon, System, listed, wait_for

BIN = os.environ["SIGNET_BIN_DIR"]


class FaultTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="signet-it-")
        self.addCleanup(self.folder.cleanup)
        self.system = System(BIN, self.folder.name)
        self.addCleanup(self.system.stop)

    def entries(self):
        return {entry["id"] for entry in listed(self.system.signet("entry", "list"), "entries")}


class ServerAwayTest(FaultTest):
    def test_agent_restarted_without_server_serves_what_it_held(self):  # F3; SPIRE's agent exits here
        self.system.start()
        self.system.create_entry("/app")
        before = self.system.wait_svid("/app")
        self.system.agent.kill()  # at once: what a workload has been given is on disk
        self.system.server.kill()
        self.system.agent.spawn()
        after = self.system.wait_svid("/app")
        self.assertEqual(before["x509_svid"], after["x509_svid"])

    def test_agent_killed_at_any_moment_serves_all_that_a_workload_was_given(self):  # F3
        self.system.start()
        for n in range(6):
            self.system.create_entry(f"/app/{n}")
            given = self.system.wait_svid(f"/app/{n}")
            self.system.agent.kill()
            self.system.server.kill()
            self.system.agent.spawn()
            held = {svid["spiffe_id"]: svid for svid in wait_for("served", lambda: self.system.fetch(check=False))}
            self.assertEqual(len(held), n + 1)
            self.assertEqual(held[given["spiffe_id"]]["x509_svid"], given["x509_svid"])
            self.system.server.start()
            wait_for("the server's return", lambda: "degraded" not in self.system.agent.http("/readyz")[1], 40)

    def test_withdrawn_entry_stays_withdrawn_over_a_restart_without_server(self):
        self.system.start()
        self.system.create_entry("/stays")
        gone = self.system.create_entry("/goes")
        self.system.wait_svid("/goes")
        self.system.wait_svid("/stays")
        self.system.signet("entry", "delete", "--id", gone["id"])
        wait_for("the withdrawal", lambda: [svid["spiffe_id"] for svid in self.system.fetch()] == ["spiffe://example.org/stays"])
        self.system.server.kill()
        self.system.agent.kill()  # at once: before any snapshot that was due later
        self.system.agent.spawn()
        self.system.wait_svid("/stays")
        self.assertEqual([svid["spiffe_id"] for svid in self.system.fetch()], ["spiffe://example.org/stays"])

    def test_agent_says_that_the_server_is_away_and_catches_up(self):
        self.system.start()
        self.system.create_entry("/app")
        self.system.wait_svid("/app")
        self.system.server.kill()
        wait_for("degraded health", lambda: "degraded" in self.system.agent.http("/readyz")[1])
        self.assertEqual(self.system.agent.http("/readyz")[0], 200)
        self.system.server.start()
        self.system.create_entry("/later")
        self.system.wait_svid("/later", seconds=40)

    def test_flipped_bit_in_the_sealed_cache_serves_nothing_and_is_named(self):
        self.system.start()
        self.system.create_entry("/app")
        self.system.wait_svid("/app")
        self.system.server.kill()
        self.system.agent.kill()
        cache = next(path for path in self.system.agent.data.iterdir() if "cache" in path.name and "key" not in path.name
                     and path.stat().st_size > 500)
        content = bytearray(cache.read_bytes())
        content[len(content) // 2] ^= 1
        cache.write_bytes(content)
        self.system.agent.spawn()
        wait_for("the damage in the log", lambda: cache.name in self.system.agent.log_text() and "corrupt" in self.system.agent.log_text())
        self.assertIsNone(self.system.fetch(check=False))


class ServerKillTest(FaultTest):
    """kill -9 at each failpoint on the way of a write: what was acknowledged is there after the restart (I1), nothing is
    there by half (I2), and the authorities are the same (I7)."""

    FAILPOINTS = ("sqlite.before_commit", "sqlite.after_commit")

    def authorities(self):
        return self.system.run("bundle", "show", "--format", "pem", socket=self.system.admin).stdout

    def test_acknowledged_entries_survive(self):
        self.system.server.start()
        kept = {self.system.create_entry(f"/kept/{n}", parent="spiffe://example.org/node")["id"] for n in range(5)}
        authorities = self.authorities()
        self.system.server.stop()
        for failpoint in self.FAILPOINTS:
            for passage in (1, 2, 3):
                with self.subTest(failpoint=failpoint, passage=passage):
                    self.system.server.spawn(failpoint=f"{failpoint}=kill@{passage}")
                    for n in range(4):
                        try:
                            kept.add(self.system.create_entry(f"/try/{failpoint}/{passage}/{n}".replace("_", "-"),
                                                              parent="spiffe://example.org/node")["id"])
                        except AssertionError:
                            if not self.system.server.running():
                                break
                    if self.system.server.running():
                        self.system.server.kill()
                    self.system.server.wait_exit()
                    self.system.server.start()
                    self.assertLessEqual(kept, self.entries())
                    self.assertEqual(authorities, self.authorities())
                    self.system.server.stop()

    def test_killed_at_random_under_load(self):
        self.system.server.start()
        acknowledged = set()
        for _ in range(3):
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                def create(n):
                    try:
                        return self.system.create_entry(f"/load/{n}", parent="spiffe://example.org/node")["id"]
                    except AssertionError:
                        return None
                start = len(acknowledged)
                futures = [pool.submit(create, start * 100 + n) for n in range(40)]
                concurrent.futures.wait(futures, return_when=concurrent.futures.FIRST_COMPLETED)
                self.system.server.kill()
                acknowledged |= {future.result() for future in futures} - {None}
            self.system.server.start()
            self.assertLessEqual(acknowledged, self.entries())
        self.assertTrue(acknowledged)

    def test_killed_around_a_signature_the_agent_gets_its_svid_from_the_next_one(self):
        self.system.start()
        agent = self.system.agent_id()
        seen = set()
        for n, failpoint in enumerate(("svid.before_sign", "svid.after_sign")):
            with self.subTest(failpoint=failpoint):
                self.system.server.kill()
                self.system.server.start(failpoint=f"{failpoint}=kill@1")
                self.system.create_entry(f"/signed/{n}", parent=agent)
                wait_for("a signature", lambda: (self.system.fetch(check=False), not self.system.server.running())[1], 40)
                self.system.server.start()
                seen.add(self.system.wait_svid(f"/signed/{n}", seconds=40)["x509_svid"])
        self.assertEqual(len(seen), 2)  # no certificate twice

    def test_killed_between_attestation_and_its_reply_the_agent_still_gets_its_svid(self):
        self.system.server.start(failpoint="attest.before_reply=kill@1")
        self.system.pin_server_port()
        token = self.system.new_token()
        self.system.configure_agent(token=token).spawn()
        self.system.server.wait_exit()
        self.system.server.start()
        self.assertEqual(len(self.system.agents()), 1)  # what was committed stands
        wait_for("the agent attested", self.system.agent.is_ready, 40)  # the token again, with the same key
        self.assertEqual(len(self.system.agents()), 1)
        # The token is worth nothing to anybody else.
        self.system.agent.stop()
        thief = self.system.configure_agent(token=token, name="thief")
        thief.spawn()
        self.addCleanup(thief.kill)
        self.assertEqual(thief.wait_exit(), 1)
        self.assertIn("used already", thief.log_text())
        self.assertEqual(len(self.system.agents()), 1)

    def test_ban_and_spent_token_survive(self):
        self.system.start()
        agent = self.system.agent_id()
        self.system.signet("agent", "ban", "--spiffe-id", agent)
        self.system.server.kill()
        self.system.server.start()
        self.assertTrue(self.system.agents()[0]["banned"])

    def test_killed_at_each_step_of_a_file_write_starts_again_with_the_same_authorities(self):
        for failpoint in ("atomic_file.before_write", "atomic_file.after_fsync", "atomic_file.before_rename", "atomic_file.after_rename"):
            with self.subTest(failpoint=failpoint):
                shutil.rmtree(self.system.server.data, ignore_errors=True)
                for passage in (1, 2, 3, 4):
                    self.system.server.spawn(failpoint=f"{failpoint}=kill@{passage}")
                    wait_for("ready or dead", lambda: not self.system.server.running() or self.system.server.is_ready())
                    self.system.server.kill()
                self.system.server.start()
                authorities = self.authorities()
                self.system.server.stop()
                self.system.server.start()
                self.assertEqual(authorities, self.authorities())
                self.system.server.stop()


class AgentKillTest(FaultTest):
    def given(self):
        return {svid["spiffe_id"]: svid["x509_svid"] for svid in self.system.fetch(check=False) or []}

    def test_killed_at_each_step_of_a_file_write_it_serves_again(self):
        self.system.start()
        self.system.create_entry("/app", x509_ttl="10s")
        self.system.wait_svid("/app")
        self.system.agent.stop()
        for failpoint in ("atomic_file.before_write", "atomic_file.after_fsync", "atomic_file.before_rename", "atomic_file.after_rename"):
            for passage in (1, 2, 3):
                with self.subTest(failpoint=failpoint, passage=passage):
                    self.system.agent.spawn(failpoint=f"{failpoint}=kill@{passage}")
                    wait_for("dead, or served and rotated past the point",
                             lambda: not self.system.agent.running() or self.system.fetch(check=False))
                    self.system.agent.kill()
                    self.system.agent.start()
                    self.system.wait_svid("/app")
                    self.system.agent.stop()


    def test_killed_at_each_step_of_a_mint_it_serves_without_server_what_a_workload_was_given(self):
        self.system.start()
        steps = ("sealed_log.before_append", "sealed_log.after_write", "sealed_log.after_fsync", "sealed_cache.before_publish",
                 "sealed_cache.after_publish", "sealed_cache.before_log_reset")
        for n, failpoint in enumerate(steps):
            with self.subTest(failpoint=failpoint):
                self.system.create_entry(f"/kept/{n}")
                self.system.wait_svid(f"/kept/{n}")
                self.system.agent.stop()
                self.system.agent.spawn(failpoint=f"{failpoint}=kill@1")
                wait_for("the agent to serve or to die", lambda: self.given() or not self.system.agent.running())
                self.system.create_entry(f"/new/{n}")
                given = {}
                wait_for("the failpoint", lambda: (given.update(self.given()), not self.system.agent.running())[1], 40)
                self.system.server.kill()
                self.system.agent.spawn()
                self.assertLessEqual(given.items(), wait_for("served", self.given).items())
                self.system.server.start()
                wait_for("the server's return", lambda: "degraded" not in self.system.agent.http("/readyz")[1], 40)

    def test_killed_at_each_step_of_a_sync_it_ends_where_the_server_is(self):
        self.system.start()
        self.system.create_entry("/stays", x509_ttl="10s")
        self.system.wait_svid("/stays")
        steps = ("sync.after_mint", "sync.before_ack", "sealed_cache.before_withdraw", "sealed_cache.after_withdraw",
                 "sealed_cache.before_log_reset")
        for n, failpoint in enumerate(steps):
            with self.subTest(failpoint=failpoint):
                goes = self.system.create_entry(f"/goes/{n}")
                self.system.wait_svid(f"/goes/{n}")
                self.system.agent.stop()
                self.system.agent.spawn(failpoint=f"{failpoint}=kill@1")
                wait_for("the agent to serve or to die", lambda: not self.system.agent.running() or self.system.fetch(check=False))
                self.system.signet("entry", "delete", "--id", goes["id"])
                self.system.create_entry(f"/comes/{n}")
                wait_for("the failpoint", lambda: (self.system.fetch(check=False), not self.system.agent.running())[1], 40)
                self.system.agent.start()
                self.system.wait_svid(f"/comes/{n}")
                self.assertNotIn(f"spiffe://example.org/goes/{n}", [svid["spiffe_id"] for svid in self.system.fetch()])


class DamagedFileTest(FaultTest):
    def assert_refuses_to_start(self, daemon, *words):
        daemon.spawn()
        self.assertNotEqual(daemon.wait_exit(), 0)
        for word in words:
            self.assertIn(word, daemon.log_text())

    def test_damaged_database_is_named_and_not_replaced(self):
        self.system.server.start()
        self.system.server.stop()
        database = self.system.server.data / "server.db"
        for leftover in self.system.server.data.glob("server.db-*"):
            leftover.unlink()
        damaged = bytearray(database.read_bytes())
        damaged[0:64] = os.urandom(64)
        database.write_bytes(damaged)
        self.assert_refuses_to_start(self.system.server, "server.db")
        self.assertEqual(database.read_bytes(), bytes(damaged))

    def test_key_readable_by_others_is_refused_with_the_chmod_that_helps(self):
        self.system.server.start()
        self.system.server.stop()
        for key in (self.system.server.data / "keys").iterdir():
            key.chmod(0o644)
        self.assert_refuses_to_start(self.system.server, "chmod")

    def test_damaged_key_is_named_and_no_root_is_replaced_silently(self):  # F9
        self.system.server.start()
        before = self.system.run("bundle", "show", "--format", "pem", socket=self.system.admin).stdout
        self.system.server.stop()
        key = next(path for path in (self.system.server.data / "keys").iterdir() if "x509" in path.name.lower())
        key.write_bytes(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
        self.system.server.spawn()
        wait_for("a verdict", lambda: not self.system.server.running() or self.system.server.is_ready())
        self.assertIn(key.name, self.system.server.log_text())
        if self.system.server.running():  # then what was trusted is trusted still
            after = self.system.run("bundle", "show", "--format", "pem", socket=self.system.admin).stdout
            self.assertIn(before.strip(), after)

    def test_newer_schema_is_refused(self):
        self.system.server.start()
        self.system.server.stop()
        import sqlite3
        database = sqlite3.connect(self.system.server.data / "server.db")
        database.execute("PRAGMA user_version = 9999")
        database.commit()
        database.close()
        self.assert_refuses_to_start(self.system.server, "9999")


class FolderTest(FaultTest):
    def test_socket_path_too_long(self):
        config = self.system.server.config
        config.write_text(config.read_text().replace(str(self.system.admin), f"{self.folder.name}/{'x' * 120}/admin.sock"))
        self.system.server.spawn()
        self.assertNotEqual(self.system.server.wait_exit(), 0)
        self.assertIn("107", self.system.server.log_text())

    def test_socket_of_a_living_daemon_is_not_taken(self):
        self.system.start()
        other = self.system.configure_agent(name="other")
        other.spawn()
        self.assertNotEqual(other.wait_exit(), 0)
        self.assertIn(str(self.system.workload), other.log_text())

    def test_dead_socket_file_is_replaced(self):
        self.system.server.start()
        self.system.server.kill()
        self.assertTrue(stat.S_ISSOCK(self.system.admin.stat().st_mode))
        self.system.server.start()

    @unittest.skipUnless(os.getuid() == 0, "NOT RUN: mounting a read-only file system needs root")
    def test_read_only_data_folder_is_named_and_nothing_is_lost(self):
        self.system.server.start()
        kept = self.system.create_entry("/kept", parent="spiffe://example.org/node")["id"]
        self.system.server.stop()
        data = self.system.server.data
        subprocess.run(["mount", "--bind", data, data], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", data], check=False, capture_output=True)
        (data / "addresses.json").unlink()
        subprocess.run(["mount", "-o", "remount,bind,ro", data], check=True)
        self.system.server.spawn()
        self.assertNotEqual(self.system.server.wait_exit(), 0)
        self.assertIn(str(data), self.system.server.log_text())
        subprocess.run(["umount", "-l", data], check=True)
        self.system.server.start()
        self.assertIn(kept, self.entries())

    @unittest.skipUnless(os.getuid() == 0, "NOT RUN: mounting a full file system needs root")
    def test_full_data_folder_acknowledges_nothing_it_cannot_keep(self):  # F4
        data = self.system.server.data
        data.mkdir(mode=0o700)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m,mode=0700", "tmpfs", data], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", data], check=False)
        self.addCleanup(self.system.stop)
        self.system.server.start()
        kept = {self.system.create_entry("/before", parent="spiffe://example.org/node")["id"]}
        filler = data / "filler"
        with open(filler, "wb") as file:
            try:
                while True:
                    file.write(b"\0" * 65536)
                    file.flush()
            except OSError:
                pass
        refused = False
        for n in range(200):
            done = self.system.run("entry", "create", "--parent-id", "spiffe://example.org/node", "--spiffe-id",
                                   f"spiffe://example.org/full/{n}", "--selector", "unix:uid:1", "--dns", f"{'a' * 60}.example.org",
                                   "--output", "json", socket=self.system.admin, check=False)
            if done.returncode != 0:
                refused = True
                break
            kept.add(first_id(done.stdout))
        self.assertTrue(refused, "the file system never filled")
        self.assertTrue(self.system.server.running())
        filler.unlink()
        kept.add(wait_for("writes to work again", lambda: self.try_create()))
        self.system.server.kill()
        self.system.server.start()
        self.assertLessEqual(kept, self.entries())

    def try_create(self):
        try:
            return self.system.create_entry("/after", parent="spiffe://example.org/node")["id"]
        except AssertionError:
            return None


def first_id(text):
    import json
    from system import first
    return first(json.loads(text), "entries", "results")["id"]


if __name__ == "__main__":
    unittest.main(verbosity=2)
