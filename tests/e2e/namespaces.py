#!/usr/bin/env python3
"""Machines of a test: network namespaces, joined by bridges whose cables can be pulled.

Making them takes root, or a user namespace; where neither is allowed there are none, and what needs
them is skipped. As a program: exit code 0 if they can be made here.
"""
import os
import subprocess
import sys

SKIPPED = 77  # ctest: SKIP_RETURN_CODE
INSIDE = "TANDEM_TEST_NAMESPACE"
WAYS = (["unshare", "--net"], ["unshare", "--user", "--map-root-user", "--net"])
PROBE = ("ip link add dev br type bridge && ip link add dev v type veth peer name w "
         "&& unshare --net true")


def way():
    """What a command that may make machines begins with; None: it is not possible."""
    for words in WAYS:
        try:
            if subprocess.run([*words, "sh", "-c", PROBE], capture_output=True).returncode == 0:
                return words
        except FileNotFoundError:
            return None
    return None


def enter_or_skip():
    """Runs this program again where it may make machines; ends it if that is not possible."""
    if os.environ.get(INSIDE):
        return
    words = way()
    if words is None:
        print("SKIPPED: network namespaces cannot be made here: neither root nor user namespaces "
              "are allowed to, or iproute2 is missing")
        sys.exit(SKIPPED)
    os.environ[INSIDE] = "1"
    os.execvp(words[0], [*words, sys.executable, *sys.argv])


def ip(*words, inside=()):
    subprocess.run([*inside, "ip", *words], check=True)


class Bridge:
    """A switch. `address`: of this process on it, with the prefix length; empty: none."""

    def __init__(self, name, address=""):
        self.name = name
        # With an address of its own: one without takes the least of its ports' and another when that
        # port goes, which the machines' ARP tables learn only after a minute.
        ip("link", "add", "dev", name, "address", "02:00:00:00:00:01", "type", "bridge")
        ip("link", "set", "dev", name, "up")
        if address:
            ip("addr", "add", address, "dev", name)


class Machine:
    """A network namespace, alive as long as a process of its own."""

    def __init__(self):
        self.holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo; exec sleep infinity"], stdout=subprocess.PIPE
        )
        self.holder.stdout.readline()
        self.inside = ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net"]
        self.cables = {}
        ip("link", "set", "lo", "up", inside=self.inside)

    def plug(self, bridge, address):
        cable = f"v{self.holder.pid}.{len(self.cables)}"
        card = f"eth{len(self.cables)}"
        ip("link", "add", "dev", cable, "type", "veth", "peer", "name", card, "netns",
           str(self.holder.pid))
        ip("addr", "add", address, "dev", card, inside=self.inside)
        ip("link", "set", card, "up", inside=self.inside)
        ip("link", "set", cable, "up")
        self.cables[bridge.name] = cable
        self.restore(bridge)

    def cut(self, bridge):
        """Nothing passes any more, and neither end is told: no carrier is lost."""
        ip("link", "set", self.cables[bridge.name], "nomaster")

    def restore(self, bridge):
        ip("link", "set", self.cables[bridge.name], "master", bridge.name)

    def end(self):
        self.holder.kill()
        self.holder.wait()
        self.holder.stdout.close()


if __name__ == "__main__":
    sys.exit(0 if way() else 1)
