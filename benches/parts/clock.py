"""Times commands as whole processes."""

import os
import resource
import statistics
import subprocess
import time

LIMIT_S = 600


def timed(words, env=None, cwd=None, log=None):
    """Seconds of a command that must succeed, and the processor seconds of it and its
    children on this host (the machines' own are not in it)."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.monotonic()
    done = subprocess.run(
        words, env=env, cwd=cwd, stdin=subprocess.DEVNULL, timeout=LIMIT_S,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    seconds = time.monotonic() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if log:
        with open(log, "a") as file:
            file.write(f"$ {' '.join(words)}\n{done.stdout}\n")
    if done.returncode != 0:
        raise RuntimeError(f"{words} ended with {done.returncode}:\n{done.stdout[-4000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(seconds, 3), "cpu": round(cpu, 3)}


def at_once(commands, stdin):
    """Seconds until commands that were started together have all ended well."""
    begun = time.monotonic()
    running = []
    for words in commands:
        with open(stdin, "rb") as file:
            running.append(subprocess.Popen(words, stdin=file, stdout=subprocess.DEVNULL))
    codes = [child.wait(timeout=LIMIT_S) for child in running]
    seconds = time.monotonic() - begun
    if any(codes):
        raise RuntimeError(f"a command failed: {codes}")
    return {"seconds": round(seconds, 3)}


def summary(runs, field="seconds"):
    """Median, least and most of several runs."""
    values = [run[field] for run in runs]
    return {
        "median": round(statistics.median(values), 3),
        "min": min(values), "max": max(values), "runs": values,
    }


def machine():
    """What it ran on, as far as it decides the figures."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processors": os.cpu_count(), "memoryGiB": round(memory / 2**30),
        "kernel": os.uname().release, "loadBefore": os.getloadavg()[0],
    }
