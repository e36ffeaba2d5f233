"""What a benchmark's processes send."""

from __future__ import annotations

import re
import subprocess


def sent(processes: list[subprocess.Popen[str]]) -> int:
    """Bytes that the processes have sent over connections that are open."""
    sockets = subprocess.run(
        ["ss", "-tinpH"], capture_output=True, text=True, check=True
    ).stdout.replace("\n\t", "\t")
    ours = tuple(f"pid={process.pid}," for process in processes)
    lines = [line for line in sockets.splitlines() if any(pid in line for pid in ours)]
    return sum(int(number) for line in lines for number in re.findall(r"bytes_sent:(\d+)", line))
