"""Runs a program on so many cores and says how long it took and how much memory it and its children had at once.

For bench_nnunet.py and prove_totalsegmentator.py. Memory is the greater of two figures: what the kernel says of the largest
process (its high-water mark), and the sum over all processes, shared pages once, looked at every quarter of a second. Linux
only; needs nothing but Python.
"""

import os
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Measured:
    """How a program ended."""

    code: int
    seconds: float
    peak_bytes: int
    stdout: str
    stderr: str


def family(root):
    """The process and all its descendants."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # After the name, which may hold anything: state, parent.
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue
    found, more = {root}, True
    while more:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
    return found


def proportional(pid):
    """The memory of a process in bytes; pages that several have count once among them."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))


def run(command, threads, environment=None):
    """Runs a command to its end on `threads` of the cores that this process may use."""
    cores = set(sorted(os.sched_getaffinity(0))[:threads])
    told = {**os.environ, "OMP_NUM_THREADS": str(threads), **(environment or {})}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        started = time.perf_counter()
        child = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=told,
                                 preexec_fn=lambda: os.sched_setaffinity(0, cores))
        ended, sums = threading.Event(), [0]

        def look():
            while not ended.wait(0.25):
                sums.append(sum(map(proportional, family(child.pid))))

        looking = threading.Thread(target=look)
        looking.start()
        try:
            _, status, usage = os.wait4(child.pid, 0)
        finally:
            ended.set()
            looking.join()
        seconds = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read())
    return Measured(child.returncode, seconds, max(usage.ru_maxrss * 1024, *sums), *texts)


def load():
    """How busy the machine is."""
    return "load " + " ".join(Path("/proc/loadavg").read_text().split()[:3])
