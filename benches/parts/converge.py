"""Converging blank machines, and asking once more when nothing is left to do."""

import os
import sys

from . import clock, wish


def measure(beds, tools, runs, scratch):
    """Each tool on machines of its own, in turn, so that a slower minute of the host meets
    all of them. `beds` starts a bed; `tools` are (name, maker of a tool on a bed)."""
    first = {name: [] for name, _ in tools}
    again = {name: [] for name, _ in tools}
    for number in range(runs):
        order = tools[number % len(tools):] + tools[: number % len(tools)]
        for name, make in order:
            folder = os.path.join(scratch, f"{name}{number}")
            os.mkdir(folder)
            with beds(folder) as bed:
                tool = make(bed, folder)
                run = lambda: clock.timed(
                    tool.converge(), getattr(tool, "env", None), folder,
                    os.path.join(folder, "said.log"))
                first[name].append(run())
                wish.ensure_true(bed, name)
                again[name].append(run())
            print(
                f"fleet: {name}: {first[name][-1]['seconds']} s, again {again[name][-1]['seconds']} s",
                file=sys.stderr)
    sums = {}
    for name, _ in tools:
        sums[name] = {
            "blank": clock.summary(first[name]),
            "blankHostCpu": clock.summary(first[name], "cpu"),
            "again": clock.summary(again[name]),
        }
    return sums
