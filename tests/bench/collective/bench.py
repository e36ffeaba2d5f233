"""Allreduce beside gloo and Open MPI, round by round: medians, ratios, and what memory allows.

All ranks are processes of this host and may use the cores that this process may use. The limit is
the time in which the host's cores, all copying, read every rank's vector once and write it once:
what an allreduce cannot do without, whatever it keeps in caches.
"""

import json
import os
import statistics
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
OURS = ROOT / "target" / "release" / "examples" / "allreduce_bench"
VENV = ROOT / "build" / "bench-venv" / "bin"
RESULTS = ROOT / "build" / "bench" / "collective.json"
ROUNDS = int(os.environ.get("ROUNDS", "3"))
WORLDS = [int(world) for world in os.environ.get("WORLDS", "2,4,8").split(",")]
SIZES = [4, 1_000, 64_000, 1_000_000, 16_000_000, 100_000_000]
# From here on the limit is memory and not the latency of a call.
LARGE = 16_000_000

Times = dict[int, float]


def run(command: list[str], **environment: str) -> str:
    """What a command prints; nothing if it fails."""
    path = f"{VENV}:{os.environ['PATH']}"
    variables = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(
        command, cwd=HERE, env=variables, capture_output=True, text=True, timeout=900, check=False
    )
    if done.returncode:
        print(f"{' '.join(command[:6])} failed: {done.stderr[-500:]}", flush=True)
        return ""
    return done.stdout


def times(said: str) -> Times:
    """Microseconds by bytes, from JSON lines."""
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    return {line["bytes"]: line["us"] for line in lines}


def ours(world: int, transports: str, security: str) -> Times:
    """Ours over `transports`, which `security` protects."""
    return times(run([str(OURS), str(world), transports, security, *map(str, SIZES)]))


def gloo(world: int) -> Times:
    """torch.distributed on gloo, over TCP on the loopback device."""
    with tempfile.TemporaryDirectory() as folder:
        ranks = [
            subprocess.Popen(
                [VENV / "python", "peer_gloo.py", str(rank), str(world), f"{folder}/meeting"]
                + [str(size) for size in SIZES],
                cwd=HERE,
                env={**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            for rank in range(world)
        ]
        said = [rank.communicate(timeout=900)[0] for rank in ranks]
        return times(said[0])


def open_mpi(world: int) -> Times:
    """Open MPI over its shared memory."""
    mpirun = ["mpirun", "-n", str(world), "--oversubscribe", "--bind-to", "none"]
    command = [*mpirun, "--mca", "btl", "self,sm", f"{VENV}/python", "peer_mpi.py"]
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return times(run([*command, *map(str, SIZES)], **root))


CONTENDERS = {
    "shared memory": lambda world: ours(world, "auto", "auth"),
    "TCP": lambda world: ours(world, "tcp", "auth"),
    "TCP, security off": lambda world: ours(world, "tcp", "off"),
    "gloo": gloo,
    "Open MPI": open_mpi,
}


def main() -> None:
    """Measures, prints the table, and writes it as JSON."""
    measured: dict[tuple[str, int, int], list[float]] = defaultdict(list)
    copied: list[float] = []
    for turn in range(ROUNDS):
        copied.append(float(run([f"{VENV}/python", "bandwidth.py"]) or "nan"))
        for world in WORLDS:
            for name, contender in CONTENDERS.items():
                found = contender(world)
                print(f"round {turn + 1}, {world} ranks, {name}: {found}", flush=True)
                for size, microseconds in found.items():
                    measured[name, world, size].append(microseconds)
    medians = {key: statistics.median(values) for key, values in measured.items()}
    report(medians, statistics.median(copied))


def report(medians: dict[tuple[str, int, int], float], bandwidth: float) -> None:
    """The table: figure, ours, peer, ratio, aim."""
    pairs = [("TCP", "gloo", 2.0), ("TCP, security off", "gloo", 2.0)]
    pairs.append(("shared memory", "Open MPI", 1.0))
    rows = []
    for name, peer, aim in pairs:
        for world in WORLDS:
            for size in SIZES:
                own, other = (medians.get((which, world, size)) for which in (name, peer))
                rows.append(row(name, world, size, own, (peer, other), aim))
    for world in WORLDS:
        for size in filter(lambda size: size >= LARGE, SIZES):
            own = medians.get(("shared memory", world, size))
            limit = world * size / bandwidth * 1e6
            rows.append(row("shared memory", world, size, own, ("memory's limit", limit), 0.7))
    print(f"\nMedians of {ROUNDS} rounds, microseconds. All cores copy {bandwidth / 1e9:.1f} GB/s.")
    print("| allreduce | ours | peer | | ratio | aim | |\n|---|---|---|---|---|---|---|")
    for entry in rows:
        own, other, ratio = entry["ours"], entry["theirs"], entry["ratio"]
        shown = ["not measured" if value is None else f"{value:,.1f}" for value in (own, other)]
        verdict = "" if ratio is None else "met" if ratio >= entry["aim"] else "missed"
        print(
            f"| {entry['figure']} | {shown[0]} | {entry['peer']} | {shown[1]} "
            f"| {'' if ratio is None else f'{ratio:.2f}'} | {entry['aim']} | {verdict} |"
        )
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=1))


def row(
    name: str, world: int, size: int, own: float | None, peer: tuple[str, float | None], aim: float
) -> dict:
    """One line of the table; the ratio says how many times faster ours is."""
    other = peer[1]
    figure = f"{name}, {world} ranks, {size:,} B"
    ratio = other / own if own and other else None
    return {
        "figure": figure,
        "unit": "us",
        "ours": own,
        "peer": peer[0],
        "theirs": other,
        "ratio": ratio,
        "aim": aim,
    }


main()
