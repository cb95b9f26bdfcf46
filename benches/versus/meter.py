"""Measures what a server costs: CPU time, memory above idle, disk in some folders."""

import os
import threading
import time

TICK = os.sysconf("SC_CLK_TCK")
MB = 1 << 20
DISK_EVERY_S = 0.05
MEMORY_EVERY_S = 0.02


def machine_cpu_s():
    """CPU seconds that the whole machine has spent on work."""
    with open("/proc/stat") as stat:
        values = [int(value) for value in stat.readline().split()[1:9]]
    return (values[0] + values[1] + values[2] + values[5] + values[6]) / TICK


def process_cpu_s(pid):
    """User and system seconds of a process; it keeps them when it replaces itself."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def memory_bytes(pid, key):
    """A line of /proc/PID/status in bytes; 0 when the process is just being replaced."""
    try:
        with open(f"/proc/{pid}/status") as status:
            for line in status:
                if line.startswith(key + ":"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def allocated_bytes(folders):
    """Bytes on the disk under the folders, each file once."""
    total, seen, stack = 0, set(), [str(folder) for folder in folders]
    while stack:
        try:
            entries = os.scandir(stack.pop())
        except OSError:
            continue
        with entries:
            for entry in entries:
                try:
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(entry.path)
                        continue
                    stat = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                if stat.st_ino not in seen:
                    seen.add(stat.st_ino)
                    total += stat.st_blocks * 512
    return total


class Meter:
    """Measures from its making until `done`. `folders`: where the disk's peak is looked for."""

    def __init__(self, pid, folders=()):
        self.pid, self.folders, self.stop = pid, folders, threading.Event()
        # Sets the kernel's own peak back to the present size.
        with open(f"/proc/{pid}/clear_refs", "w") as clear:
            clear.write("5")
        self.idle = self.memory = memory_bytes(pid, "VmRSS")
        self.disk_before = self.disk = allocated_bytes(folders)
        watch = threading.Thread(target=self._watch, daemon=True)
        self.machine, self.own, self.cpu = machine_cpu_s(), sum(os.times()[:4]), process_cpu_s(pid)
        self.started = time.perf_counter()
        watch.start()
        self.watch = watch

    def _watch(self):
        """The kernel forgets the peak when the process replaces itself, so it is sampled."""
        disk_due = 0.0
        while not self.stop.wait(MEMORY_EVERY_S):
            self.memory = max(self.memory, memory_bytes(self.pid, "VmHWM"))
            if self.folders and time.perf_counter() >= disk_due:
                self.disk = max(self.disk, allocated_bytes(self.folders))
                disk_due = time.perf_counter() + DISK_EVERY_S

    def done(self):
        """What was seen, as a dictionary of numbers."""
        wall = time.perf_counter() - self.started
        cpu = process_cpu_s(self.pid) - self.cpu
        machine, own = machine_cpu_s() - self.machine, sum(os.times()[:4]) - self.own
        self.stop.set()
        self.watch.join()
        memory = max(self.memory, memory_bytes(self.pid, "VmHWM"))
        disk = max(self.disk, allocated_bytes(self.folders))
        return {
            "time_s": wall,
            "cpu_s": cpu,
            "memory_mib": max(0, memory - self.idle) / MB,
            "idle_mib": self.idle / MB,
            "disk_mb": (disk - self.disk_before) / 1e6,
            "others_cores": max(0.0, machine - own - cpu) / wall,
        }
