"""pyinfra and Ansible on a bed, asked for the same wish, each set up as its own
documentation recommends for speed."""

import hashlib
import json
import os
import subprocess
import sys

from . import wish

PINS = os.path.join(os.path.dirname(__file__), "peers.txt")


def install(cache):
    """A virtual environment with the pinned peers, made once; its folder of programs."""
    with open(PINS, "rb") as file:
        key = hashlib.sha256(file.read() + sys.version.encode()).hexdigest()[:16]
    place = os.path.join(cache, f"peers-{key}")
    if not os.path.exists(os.path.join(place, "complete")):
        print("fleet: installing the peers (once)", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
        pip = [os.path.join(place, "bin", "pip"), "install", "-q", "--no-deps", "-r", PINS]
        subprocess.run(pip, check=True)
        open(os.path.join(place, "complete"), "w").close()
    return os.path.join(place, "bin")


def versions():
    """`name==version` of the two peers."""
    with open(PINS) as file:
        pins = [line.strip() for line in file]
    return [pin for pin in pins if pin.startswith(("pyinfra==", "ansible-core=="))]


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w") as file:
        file.write(text)
    return path


def payload(folder):
    """The files of the wish, for tools that copy from files: (source, destination)."""
    pairs = []
    for number, (path, text) in enumerate({**wish.FILES, wish.UNIT_PATH: wish.UNIT_TEXT}.items()):
        pairs.append((write(folder, f"payload{number}", text), path))
    return pairs


class Pyinfra:
    """pyinfra: parallel on all machines, no shell configuration of the user's."""

    name = "pyinfra"

    def __init__(self, programs, bed, scratch):
        data = {
            "ssh_user": "root", "ssh_key": bed.key,
            "ssh_known_hosts_file": bed.known_hosts, "ssh_strict_host_key_checking": "yes",
            "ssh_config_file": os.devnull,
        }
        hosts = [(address, data) for _, address, _ in bed.machines]
        self.inventory = write(scratch, "inventory.py", f"machines = {hosts!r}\n")
        puts = "".join(
            f"files.put(src={source!r}, dest={path!r}, mode='644')\n"
            for source, path in payload(scratch)
        )
        key, value = wish.SYSCTL
        self.deploy = write(
            scratch, "deploy.py",
            "from pyinfra.operations import files, server, systemd\n" + puts
            + f"server.sysctl(key={key!r}, value={int(value)})\n"
            + f"systemd.service(service={wish.UNIT!r}, running=True, enabled=True, daemon_reload=True)\n",
        )
        self.programs, self.parallel = programs, len(hosts)
        self.env, self.dir = dict(os.environ), scratch

    def converge(self):
        return [
            os.path.join(self.programs, "pyinfra"), "-y", "--parallel", str(self.parallel),
            self.inventory, self.deploy,
        ]


class Ansible:
    """Ansible: pipelining, a fork per machine, connections kept, no facts gathered."""

    name = "ansible"

    def __init__(self, programs, bed, scratch):
        hosts = "".join(f"{name} ansible_host={address}\n" for name, address, _ in bed.machines)
        self.inventory = write(scratch, "hosts.ini", hosts)
        tasks = [
            {"ansible.builtin.file": {"path": os.path.dirname(next(iter(wish.FILES))), "state": "directory"}}
        ]
        for source, path in payload(scratch):
            tasks.append({"ansible.builtin.copy": {"src": source, "dest": path, "mode": "0644"}})
        key, value = wish.SYSCTL
        tasks.append({"ansible.posix.sysctl": {
            "name": key, "value": value, "sysctl_set": True, "reload": False}})
        tasks.append({"ansible.builtin.systemd_service": {
            "name": wish.UNIT, "state": "started", "enabled": True, "daemon_reload": True}})
        play = [{"hosts": "all", "gather_facts": False, "tasks": tasks}]
        # YAML holds JSON.
        self.playbook = write(scratch, "play.yml", json.dumps(play, indent=1))
        options = " ".join(bed.ssh_options() + ["-o ControlMaster=auto -o ControlPersist=60s"])
        config = write(scratch, "ansible.cfg", "\n".join([
            "[defaults]", f"forks = {len(bed.machines)}", "remote_user = root",
            "interpreter_python = /usr/bin/python3", f"local_tmp = {scratch}/ansible",
            "[ssh_connection]", "pipelining = True", f"ssh_args = {options}",
            f"control_path_dir = {scratch}/cp", "",
        ]))
        self.env, self.dir = {**os.environ, "ANSIBLE_CONFIG": config, "ANSIBLE_HOME": scratch}, scratch
        self.programs = programs

    def converge(self):
        return [os.path.join(self.programs, "ansible-playbook"), "-i", self.inventory, self.playbook]
