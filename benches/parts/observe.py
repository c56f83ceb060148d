"""Observing machines that are as they should be: a plan with nothing in it."""

import os

from . import clock, wish

SCRIPT_PARTS = ("base", "owner", "probe", "stage", "job", "operation", "main")


def probe_input(root, scratch):
    """The script that trueup runs on a machine, and a probe's request: what a plain
    `ssh` is given, so that the floor does the same work there. (remote command, file)"""
    script = b""
    for part in SCRIPT_PARTS:
        with open(os.path.join(root, "crates/drivers/src/node_script/script", part + ".sh"), "rb") as file:
            script += file.read()
    files = [*wish.FILES, wish.UNIT_PATH]
    request = [*files, "", "", wish.SYSCTL[0].replace(".", "/"), "", wish.UNIT, "", "/", "", ""]
    path = os.path.join(scratch, "probe")
    with open(path, "wb") as file:
        file.write(script + "\n".join(request).encode())
    return f"""sh -c 'exec sh -c "$(head -c {len(script)})" trueup "$@"' trueup probe""", path


def ssh_commands(bed, remote, more=()):
    return [
        ["ssh", *bed.ssh_options(), *more, f"root@{address}", remote]
        for _, address, _ in bed.machines
    ]


def measure(root, bed, trueup, runs, scratch):
    """On machines that are true already. The floors are plain OpenSSH, in turn with trueup."""
    remote, stdin = probe_input(root, scratch)
    logged = os.path.join(scratch, "observe.log")
    floor, cold = [], []
    for _ in range(runs + 1):
        floor.append(clock.at_once(ssh_commands(bed, remote), stdin))
        cold.append(clock.timed(trueup.plan(), log=logged))
    masters = ["-o", "ControlMaster=auto", "-o", "ControlPersist=120s", "-o", f"ControlPath={scratch}/%h"]
    trueup.start_loop()
    open_floor, warm = [], []
    for _ in range(runs + 1):
        open_floor.append(clock.at_once(ssh_commands(bed, remote, masters), stdin))
        warm.append(clock.timed(trueup.plan(), log=logged))
    trueup.stop_loop()
    for address in (address for _, address, _ in bed.machines):
        os.path.exists(f"{scratch}/{address}") and clock.timed(
            ["ssh", *masters, "-O", "exit", f"root@{address}"])
    # The first of each warms caches up, and makes the kept connections.
    series = {"sshFloor": floor, "planCold": cold, "sshOpenFloor": open_floor, "planBesideLoop": warm}
    return {name: clock.summary(values[1:]) for name, values in series.items()}
