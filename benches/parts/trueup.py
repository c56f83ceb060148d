"""trueup on a bed: its config repo and host configuration in a scratch folder."""

import json
import os
import shutil
import subprocess
import time

from . import wish

CONVERGED_LIMIT_S = 180


def indent(text, by):
    return "".join(" " * by + line + "\n" for line in text.splitlines())


def document(kind, name, spec):
    return f"apiVersion: trueup.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n{spec}"


class Trueup:
    """A config repo with the wish for all machines of a bed, and a host for it."""

    name = "trueup"

    def __init__(self, program, bed, scratch):
        self.program, self.bed, self.dir = program, bed, scratch
        self.repo = os.path.join(scratch, "fleet")
        self.config = os.path.join(scratch, "trueup.yaml")
        self.identity = os.path.join(scratch, "id_ed25519")
        self.age_key = None
        self.loop = None
        shutil.copyfile(bed.key, self.identity)
        os.chmod(self.identity, 0o600)
        self.git("init", "-q", "-b", "main", self.repo, at=scratch)
        self._write_documents()
        self.commit()
        self.configure()

    def git(self, *words, at=None):
        me = ["-c", "user.name=bench", "-c", "user.email=bench@example.org"]
        subprocess.run(["git", *me, "-C", at or self.repo, *words], check=True)

    def write(self, path, text):
        path = os.path.join(self.repo, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)

    def commit(self):
        self.git("add", "-A")
        self.git("-c", "commit.gpgsign=false", "commit", "-q", "-m", "the wish")

    def _write_documents(self):
        switches = "  switches: {reportDrift: true, correctDrift: true, rollOut: true}\n"
        self.write("fleet.yaml", document(
            "Fleet", "bench", switches + "  defaults: {profiles: [base]}\n"))
        files = "".join(
            f"    - path: {path}\n      content: |\n{indent(text, 8)}"
            for path, text in wish.FILES.items()
        )
        unit = (
            f"    - name: {wish.UNIT}\n      enabled: true\n      state: started\n"
            f"      content: |\n{indent(wish.UNIT_TEXT, 8)}"
        )
        key, value = wish.SYSCTL
        self.write("base.yaml", document(
            "NodeProfile", "base",
            f"  files:\n{files}  sysctls:\n    {key}: \"{value}\"\n  units:\n{unit}"))
        for name, address, key in self.bed.machines:
            self.write(f"nodes/{name}.yaml", document(
                "Node", name,
                f"  connection:\n    ssh:\n      address: {address}\n      hostKeys: [\"{key}\"]\n"))

    def configure(self, more=""):
        network = self.bed.machines[0][1].rsplit(".", 1)[0]
        age = f"age: {{identityFile: {self.age_key}}}\n" if self.age_key else ""
        with open(self.config, "w") as file:
            file.write(
                f"repo: {{url: {self.repo}, branch: main}}\nfleet: bench\nholder: bench\n"
                f"stateDir: {self.dir}/state\n"
                f"ssh: {{identities: {{default: {self.identity}}}}}\n"
                f"allow: {{addresses: [{network}.0/24]}}\n"
                "switches: {reportDrift: true, correctDrift: true, rollOut: true}\n" + age + more
            )

    def command(self, *words):
        return [self.program, "--config", self.config, *words]

    def converge(self):
        """What is timed: from nothing but a config repo to true machines."""
        return self.command("apply", "--yes")

    def plan(self):
        return self.command("plan")

    def status(self):
        said = subprocess.run(
            self.command("status", "--output", "json"), capture_output=True, text=True
        )
        return json.loads(said.stdout) if said.returncode == 0 else None

    def start_loop(self):
        """`trueup run`, until every unit is true. What it asks a person for is granted."""
        socket = os.path.join(self.dir, "state", "trueup.sock")
        # One that an earlier loop left would send `status` to the state directory itself.
        if os.path.exists(socket):
            os.remove(socket)
        self.loop = subprocess.Popen(
            self.command("run"), stdout=subprocess.DEVNULL,
            stderr=open(os.path.join(self.dir, "run.log"), "w"),
        )
        deadline = time.monotonic() + CONVERGED_LIMIT_S
        while time.monotonic() < deadline:
            if os.path.exists(socket):
                status = self.status()
                if status and status["units"] and all(
                    unit["state"] == "true" for unit in status["units"]
                ):
                    return
                self.grant(status)
            if self.loop.poll() is not None:
                break
            time.sleep(0.2)
        raise RuntimeError(f"the loop did not come to rest: {str(self.status())[:4000]}")

    def grant(self, status):
        """A cluster that trueup did not make is claimed only when somebody says so."""
        held = [line for unit in (status or {}).get("units", []) for line in unit["held"]]
        steps = [line.split()[0] for line in held if "it needs a grant" in line]
        if steps:
            subprocess.run(
                self.command("approve", *steps, "--reason", "a measurement"),
                # Granted a moment ago, it waits no more: the next status tells.
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop_loop(self):
        if self.loop and self.loop.poll() is None:
            self.loop.terminate()
            self.loop.wait(timeout=30)
        self.loop = None
