"""Memory of the loop with machines and the objects of a cluster."""

import os
import subprocess
import time

from .trueup import document

# An object's content: a small page of configuration.
BYTES = 1024
REST_S = 20


def status_of(pid):
    """Resident memory of a process now and at most, in MiB."""
    fields = {}
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            name, _, value = line.partition(":")
            fields[name] = value
    mib = lambda name: round(int(fields[name].split()[0]) / 1024, 1)
    return {"rss": mib("VmRSS"), "peak": mib("VmHWM")}


def encrypted(cache, trueup, text):
    """A text under SOPS, and the identity that opens it given to trueup: a Cluster's
    token is never in the clear."""
    key = os.path.join(trueup.dir, "age.key")
    bin = os.path.join(cache, "bin")
    subprocess.run([f"{bin}/age-keygen", "-o", key], check=True, capture_output=True)
    recipient = subprocess.run(
        [f"{bin}/age-keygen", "-y", key], check=True, capture_output=True, text=True).stdout.strip()
    plain = os.path.join(trueup.dir, "plain.yaml")
    with open(plain, "w") as file:
        file.write(text)
    words = [f"{bin}/sops", "encrypt", "--age", recipient, plain]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    os.remove(plain)
    trueup.age_key = key
    return said


def add_objects(cache, trueup, kubeconfig, count):
    """A Cluster without machines, reached by a kubeconfig, and an Application of so
    many ConfigMaps."""
    trueup.write("secrets/edge.enc.yaml", encrypted(cache, trueup, "token: for-no-machine\n"))
    trueup.write("edge.yaml", document(
        "Cluster", "edge",
        "  k3s:\n    version: v1.36.3+k3s1\n    tokenFrom: {secret: secrets/edge, key: token}\n"))
    trueup.write("app.yaml", document(
        "Application", "pages", "  cluster: edge\n  namespace: pages\n  source: {path: pages}\n"))
    objects = ["apiVersion: v1\nkind: Namespace\nmetadata: {name: pages}\n"]
    for number in range(count - 1):
        objects.append(
            f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: page-{number:04}}}\n"
            f"data: {{page: {'x' * BYTES}}}\n")
    trueup.write("pages/pages.yaml", "---\n".join(objects))
    trueup.commit()
    own = os.path.join(trueup.dir, "kubeconfig")
    with open(kubeconfig) as source, open(own, "w") as copy:
        copy.write(source.read())
    os.chmod(own, 0o600)
    trueup.configure(f"clusters: {{edge: {{kubeconfig: {own}}}}}\n")


def measure(cache, bed, trueup, objects):
    """From the start of the loop: rolled out, then at rest."""
    trueup.start_loop()
    machines = status_of(trueup.loop.pid)
    trueup.stop_loop()
    add_objects(cache, trueup, bed.kubeconfig, objects)
    begun = time.monotonic()
    trueup.start_loop()
    converged = round(time.monotonic() - begun, 1)
    rolled_out = status_of(trueup.loop.pid)
    time.sleep(REST_S)
    rest = status_of(trueup.loop.pid)
    trueup.stop_loop()
    trueup.start_loop()
    again = status_of(trueup.loop.pid)
    trueup.stop_loop()
    return {
        "objects": objects, "machinesOnly": machines, "rolledOut": rolled_out,
        "secondsToRollOut": converged, f"after{REST_S}s": rest, "startedAnew": again,
    }
