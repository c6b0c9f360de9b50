"""A real Slurm cluster in a box: controller, four nodes and munge on this machine, all on loopback.

Nothing of it is left when it stops: its processes are known by process id and start time, its files are in one folder,
and the link that it needs in /etc/slurm is removed. There is no slurmdbd, which listens on all addresses.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import psutil

NODES = {"h100-1": "gpu:h100:4", "gpu-1": "gpu:a100:4", "gpu-2": "gpu:a100:4", "cpu-1": ""}
"""Nodes and their GPUs."""
PARTITIONS = {"cpu": ["cpu-1"], "gpu": ["gpu-1", "gpu-2"], "h100": ["h100-1"]}
PACKAGES = "munge slurmctld slurmd slurm-client slurm-wlm-basic-plugins"
"""Debian packages that the box needs."""
HANGS = 900.0
"""Seconds after which something hangs, however much else this machine has to do."""
_DEFAULT_CONF = Path("/etc/slurm/slurm.conf")
"""Jobs look for their cluster here: the executor's job step takes SLURM_CONF out of the environment."""


class CannotStart(Exception):
    """This machine can't run the box; the message says what it lacks."""


class Box:
    """The cluster; use `running_box`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conf = folder / "slurm.conf"
        self.socket = folder / "munge" / "socket"
        self.state = folder / "processes.json"
        self.processes: dict[str, psutil.Process] = {}
        self.environment = {**os.environ, "SLURM_CONF": str(self.conf)}

    def check(self) -> None:
        """Stop unless Slurm is installed, may be started here, and is not somebody else's already.

        Raises:
            CannotStart: what is missing.
        """
        missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch", "squeue") if shutil.which(name) is None]
        if missing:
            raise CannotStart(f"no {', '.join(missing)}; apt-get install --no-install-recommends {PACKAGES}")
        if os.geteuid() != 0:
            raise CannotStart("starting Slurm's daemons needs root")
        if os.path.lexists(_DEFAULT_CONF) and _DEFAULT_CONF.resolve() != self.conf.resolve():
            raise CannotStart(f"{_DEFAULT_CONF} belongs to another cluster")

    def start(self) -> None:
        """Bring up everything, within seconds."""
        self._end_leftovers()
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in ("munge", "log", "devices", "spool/controller", *(f"spool/{node}" for node in NODES)):
            (self.folder / name).mkdir(parents=True)
        self._write_configuration()
        _DEFAULT_CONF.parent.mkdir(exist_ok=True)
        _DEFAULT_CONF.unlink(missing_ok=True)
        _DEFAULT_CONF.symlink_to(self.conf)
        self._start_munge()
        self.start_controller()
        for node in NODES:
            self.start_node(node)
        self.wait("the nodes to be idle", lambda: self.ask("sinfo", "-h", "-N", "-t", "idle").count("\n") == len(NODES))

    def stop(self) -> None:
        """End all jobs and daemons and remove the files."""
        for name in list(self.processes):
            self._kill(name)
        for node in NODES:
            self._end_jobs_of(node)
        _DEFAULT_CONF.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            _DEFAULT_CONF.parent.rmdir()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start_controller(self) -> None:
        """Start slurmctld, with the state that it had."""
        self._start("slurmctld", "slurmctld", "-D", "-f", str(self.conf))
        self.wait("slurmctld", lambda: bool(self.ask("sinfo", "-h")))

    def stop_controller(self) -> None:
        """End slurmctld as a service manager does; jobs run on."""
        process = self.processes.pop("slurmctld")
        process.terminate()
        psutil.wait_procs([process], timeout=HANGS)

    def start_node(self, node: str) -> None:
        """Start a node's slurmd."""
        self._start(f"slurmd-{node}", "slurmd", "-D", "-N", node, "-f", str(self.conf))

    def crash_node(self, node: str) -> None:
        """End a node at once, with all that runs on it, as a power cut does, and let the controller know."""
        self._kill(f"slurmd-{node}")
        self._end_jobs_of(node)
        self.ask("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=crashed")  # else after SlurmdTimeout

    def ask(self, *command: str) -> str:
        """What a Slurm command prints; empty if it fails."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=HANGS, check=False)
        return done.stdout if done.returncode == 0 else ""

    def jobs(self, folder: Path, *, comment: str = "") -> list[str]:
        """Ids of the live jobs that were submitted from a folder, those with a comment only if one is given."""
        lines = self.ask("squeue", "-h", "-o", "%i %Z %k").splitlines()
        rows = [line.split(maxsplit=2) for line in lines]
        return [row[0] for row in rows if row[1] == str(folder) and (not comment or row[2:] == [comment])]

    def history(self, folder: Path, comment: str) -> list[dict[str, str]]:
        """State, node, memory and time of all jobs with a comment from a folder, ended ones too, in order."""
        names = ("job", "folder", "state", "node", "memory", "time", "comment")
        lines = self.ask("squeue", "-h", "-t", "all", "-S", "i", "-o", "%i|%Z|%T|%N|%m|%l|%k").splitlines()
        rows = [dict(zip(names, line.split("|"), strict=True)) for line in lines]
        return [row for row in rows if row["folder"] == str(folder) and row["comment"] == comment]

    @staticmethod
    def wait(what: str, ready: Callable[[], bool], seconds: float = HANGS) -> None:
        """Wait until something is so.

        Raises:
            TimeoutError: it is not so in time.
        """
        end = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > end:
                raise TimeoutError(f"waited {seconds} s for {what}")
            time.sleep(0.2)

    def _start(self, name: str, *command: str) -> None:
        with (self.folder / "log" / f"{name}.out").open("a") as log:
            started = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.processes[name] = psutil.Process(started.pid)
        known = {str(process.pid): process.create_time() for process in self.processes.values()}
        self.state.write_text(json.dumps(known))

    def _kill(self, name: str) -> None:
        process = self.processes.pop(name)
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
            process.wait(HANGS)

    def _end_leftovers(self) -> None:
        """End what a box that was killed has left behind."""
        known = json.loads(self.state.read_text()) if self.state.exists() else {}
        for pid, created in known.items():
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(int(pid))
                if abs(process.create_time() - created) < 0.1:
                    process.kill()
        for node in NODES:
            self._end_jobs_of(node)

    def _steps_of(self, node: str) -> Iterator[psutil.Process]:
        """The step daemons on a node; each has a socket NODE_JOB.STEP in the node's spool folder."""
        sockets = {path.name.removeprefix(f"{node}_") for path in (self.folder / "spool" / node).glob(f"{node}_*.*")}
        for process in psutil.process_iter(["cmdline"]):
            words = " ".join(process.info["cmdline"] or [])
            job = words.removeprefix("slurmstepd: [").partition("]")[0]
            numbered = {job, job.replace(".batch", ".4294967291").replace(".extern", ".4294967292")}
            if words.startswith("slurmstepd: [") and numbered & sockets:
                yield process

    def _end_jobs_of(self, node: str) -> None:
        for step in list(self._steps_of(node)):
            with contextlib.suppress(psutil.NoSuchProcess):
                family = [step, *step.children(recursive=True)]
                for process in family:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
        for path in (self.folder / "spool" / node).glob(f"{node}_*.*"):
            path.unlink()

    def _start_munge(self) -> None:
        key = self.folder / "munge" / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        for folder in (self.folder, key.parent):
            folder.chmod(0o755)
        self._start(
            "munged", "munged", "--foreground", "--force", "--num-threads=2",
            f"--socket={self.socket}", f"--key-file={key}",
            f"--pid-file={key.parent / 'pid'}", f"--seed-file={key.parent / 'seed'}",
        )  # fmt: skip
        self.wait("munged", lambda: bool(self.ask("munge", "-n", "-S", str(self.socket))))

    def _write_configuration(self) -> None:
        host, ports = socket.gethostname().partition(".")[0], _free_ports(1 + len(NODES))
        nodes, gpus = [], []
        for (node, gres), port in zip(NODES.items(), ports[1:], strict=True):
            has = f"Gres={gres}" if gres else ""
            nodes.append(
                f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port}"
                f" CPUs=16 RealMemory=200000 Feature=fast {has}"
            )
            if gres:
                gpus.append(self._gpus(node, *gres.split(":")[1:]))
        partitions = [
            f"PartitionName={name} Nodes={','.join(nodes)} MaxTime=2-00:00:00"
            + (" Default=YES" if name == "cpu" else "")
            for name, nodes in PARTITIONS.items()
        ]
        text = _CONFIGURATION.format(folder=self.folder, host=host, port=ports[0], socket=self.socket)
        self.conf.write_text("\n".join([text, *nodes, *partitions, ""]))
        (self.folder / "gres.conf").write_text("\n".join([*gpus, ""]))
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")

    def _gpus(self, node: str, model: str, count: str) -> str:
        """A line of gres.conf. Slurm wants character devices before it assigns GPUs: these are /dev/null again."""
        for index in range(int(count)):
            os.mknod(self.folder / "devices" / f"{node}-{index}", 0o600 | 0o020000, os.makedev(1, 3))
        files = f"{self.folder}/devices/{node}-[0-{int(count) - 1}]"
        return f"NodeName={node} Name=gpu Type={model} File={files} Flags=nvidia_gpu_env"


_CONFIGURATION = """\
ClusterName=box
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthInfo=socket={socket}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/spool/controller
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
SlurmdParameters=config_overrides
SlurmctldTimeout=300
SlurmdTimeout=300
ReturnToService=2
KillWait=60
MinJobAge=3600
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=2
GresTypes=gpu
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
"""


def _free_ports(count: int) -> list[int]:
    """Ports that are free, and that the kernel gives to no client while a daemon is down."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    found: list[int] = []
    for port in range(first - 1, 1024, -1):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise CannotStart("no free ports")


@contextlib.contextmanager
def running_box() -> Iterator[Box]:
    """The cluster, for as long as the block runs; another process that wants one waits for its end.

    Raises:
        CannotStart: what this machine lacks.
    """
    folder = Path(tempfile.gettempdir()) / "splatdag-slurm-box"
    box = Box(folder)
    box.check()
    with _alone(folder.with_suffix(".lock")):
        try:
            box.start()
            yield box
        finally:
            box.stop()


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[IO[str]]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
