"""Machines of tests/bed, for as long as a measurement needs them."""

import os
import re
import signal
import subprocess
import time

INOTIFY = "/proc/sys/fs/inotify/max_user_instances"
READY_LIMIT_S = 180


def raise_inotify():
    """Each machine's systemd takes several inotify instances. What was there before."""
    with open(INOTIFY) as file:
        before = int(file.read())
    if before < 1024:
        set_inotify(1024)
    return before


def set_inotify(value):
    with open(INOTIFY, "w") as file:
        file.write(str(value))


class Bed:
    """Blank machines with Python, which Ansible needs and the others ignore."""

    def __init__(self, program, machines, scratch, control_plane=False):
        words = [program, "up", str(machines), "--python"]
        words += ["--control-plane"] if control_plane else []
        self.log = open(os.path.join(scratch, "bed.log"), "w+")
        self.child = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=self.log, stderr=subprocess.STDOUT
        )
        self.kubeconfig = None
        self.machines = []  # (name, address, host key)
        try:
            self._await_ready()
        except BaseException:
            self.close()
            raise

    def _await_ready(self):
        deadline = time.monotonic() + READY_LIMIT_S
        while True:
            self.log.seek(0)
            text = self.log.read()
            if "\nready;" in text:
                break
            if self.child.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the bed did not start:\n{text}")
            time.sleep(0.1)
        logins = re.findall(
            r"^ssh -i (\S+) -o UserKnownHostsFile=(\S+) root@(\S+)$", text, re.M
        )
        self.key, self.known_hosts = logins[0][0], logins[0][1]
        keys = {}
        with open(self.known_hosts) as file:
            for line in file:
                hosts, kind, key = line.split()[:3]
                keys[hosts.split(",")[0]] = f"{kind} {key}"
        for number, (_, _, address) in enumerate(logins, 1):
            self.machines.append((f"m{number:02}", address, keys[address]))
        found = re.search(r"^export KUBECONFIG=(\S+)$", text, re.M)
        self.kubeconfig = found and found.group(1)

    def ssh_options(self):
        """Options of OpenSSH that every tool is given: strict, and nothing of the user's."""
        return [
            "-F", "none", "-i", self.key,
            "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
            "-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={self.known_hosts}",
        ]

    def on_all(self, command):
        """Runs a command on every machine; what each said."""
        running = [
            subprocess.Popen(
                ["ssh", *self.ssh_options(), f"root@{address}", command],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
            )
            for _, address, _ in self.machines
        ]
        return [child.communicate(timeout=60)[0] for child in running]

    def close(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGINT)
            try:
                self.child.wait(timeout=60)
            except subprocess.TimeoutExpired:
                # The next bed, or `bed sweep`, removes what it leaves.
                self.child.kill()
                self.child.wait()
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
