"""What every tool is asked for: two files, one unit (its file, enabled, started), one
kernel setting. The same bytes for all."""

FILES = {
    "/etc/bench/motd": "kept true\n",
    "/etc/bench/limits.conf": "".join(f"limit{n} = {n}\n" for n in range(40)),
}
UNIT = "bench-hello.service"
UNIT_PATH = f"/etc/systemd/system/{UNIT}"
UNIT_TEXT = """[Unit]
Description=hello
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
[Install]
WantedBy=multi-user.target
"""
SYSCTL = ("net.core.somaxconn", "1024")

# Said by a machine on which everything is as asked for.
CHECK = (
    f"sha256sum {' '.join(FILES)} {UNIT_PATH} | cut -c1-64; "
    f"systemctl is-active {UNIT}; systemctl is-enabled {UNIT}; cat /proc/sys/net/core/somaxconn"
)


def expected():
    """What [CHECK] says then."""
    import hashlib

    texts = [*FILES.values(), UNIT_TEXT]
    sums = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    return "\n".join([*sums, "active", "enabled", SYSCTL[1]]) + "\n"


def ensure_true(bed, who):
    """Fails unless every machine of the bed is as asked for."""
    for (name, _, _), said in zip(bed.machines, bed.on_all(CHECK)):
        if said != expected():
            raise RuntimeError(f"after {who}, {name} says:\n{said}\nand not:\n{expected()}")
