"""The figures as a table, with ratios and what bounds each."""

# (part, name, what it is compared with, the goal: at most so many seconds or times)
GOALS = {
    "planBesideLoop": "< 1 s",
    "planCold": "<= 1.5 x the ssh floor",
    "pyinfra": ">= 5 x",
    "ansible": ">= 20 x",
}


def ratio(over, under):
    return round(over["median"] / under["median"], 2)


def with_ratios(figures):
    """The figures and the ratios of their medians."""
    ratios = {}
    if seen := figures.get("observe"):
        ratios["planCold/sshFloor"] = ratio(seen["planCold"], seen["sshFloor"])
        ratios["planBesideLoop/sshOpenFloor"] = ratio(seen["planBesideLoop"], seen["sshOpenFloor"])
    if made := figures.get("converge"):
        for peer in ("pyinfra", "ansible"):
            for what in ("blank", "again"):
                ratios[f"{peer}/trueup {what}"] = ratio(made[peer][what], made["trueup"][what])
    return {**figures, "ratios": ratios}


def row(what, figure, goal=""):
    return f"{what:<44}{figure['median']:>9.2f}{figure['min']:>9.2f}{figure['max']:>9.2f}  {goal}"


def text(figures):
    """For people."""
    host, ratios = figures["host"], with_ratios(figures)["ratios"]
    count = figures["machines"]
    lines = [
        f"{figures['date']}  {figures['command']}",
        f"{host['processors']} processors, {host['memoryGiB']} GiB, Linux {host['kernel']}, "
        f"load {host['loadBefore']:.1f} before; {', '.join(figures['peers'])}; machines on the same host",
        "", f"{'seconds':<44}{'median':>9}{'min':>9}{'max':>9}  goal",
    ]
    if seen := figures.get("observe"):
        lines += [
            row(f"{count} x ssh, handshake and one probe (OpenSSH)", seen["sshFloor"]),
            row("trueup plan, cold", seen["planCold"], GOALS["planCold"]),
            row(f"{count} x ssh over kept connections", seen["sshOpenFloor"]),
            row("trueup plan beside a running loop", seen["planBesideLoop"], GOALS["planBesideLoop"]),
        ]
    if made := figures.get("converge"):
        for what, words in (("blank", "converging blank machines"), ("again", "once more, nothing to do")):
            for tool in made:
                goal = GOALS.get(tool, "") if what == "blank" else ""
                lines.append(row(f"{tool}, {words}", made[tool][what], goal))
    lines += ["", *(f"{name:<44}{value:>9.2f}" for name, value in ratios.items())]
    if kept := figures.get("memory"):
        lines.append("")
        for name, value in kept.items():
            if isinstance(value, dict):
                lines.append(f"memory {name:<37}{value['rss']:>9.1f} MiB, peak {value['peak']:.1f} MiB")
        lines.append(f"{kept['objects']} objects were rolled out in {kept['secondsToRollOut']} s")
    return "\n".join(lines)
