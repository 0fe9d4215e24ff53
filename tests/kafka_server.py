"""A real Apache Kafka for the tests: one node, KRaft, from Maven artifacts, on the loopback address.

It can be killed with -9 and started again on the same log directory and the same port, which is what
the crash tests need. It ends with the process that started it, in whichever way that ends.

    python tests/kafka_server.py        starts one, says where, and ends it at the first line or end of its input
"""

import base64
import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

POM = Path(__file__).with_name("kafka-pom.xml")
MAVEN_SECONDS = 300
START_SECONDS = 90

# Kills Java when standard input closes, so also when the starting process was itself killed with -9.
_RUN_WHILE_PARENT_LIVES = """
exec 3<&0
"$@" </dev/null 3<&- & java=$!
( cat <&3 >/dev/null; kill -9 $java 2>/dev/null ) &
wait $java
"""

# Kafka logs errors only by default: a start that fails would say nothing.
_LOG4J2 = """
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %p %m (%c{1})%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
"""


class KafkaUnavailable(RuntimeError):
    """Kafka cannot be had on this machine; the message is one line that says why."""


class KafkaServer:
    """One broker with its records in `folder`. `start()`, `kill()`, `start()` keeps records and address."""

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        """`settings` are added to the server's properties."""
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0
        self._port, controller_port = _free_ports(2)
        self.bootstrap_servers = f"127.0.0.1:{self._port}"
        self._java = [_program("java"), "-Xmx512m", "-XX:TieredStopAtLevel=1", "-cp", _class_path()]
        self._logging = [f"-Dlog4j2.configurationFile={self._folder / 'log4j2.properties'}"]
        self._write_configuration(controller_port, settings or {})

    def start(self) -> None:
        """Start, and return when clients are served; KafkaUnavailable with the log's end otherwise."""
        self._starts += 1
        kafka = ["kafka.Kafka", str(self._folder / "server.properties")]
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _RUN_WHILE_PARENT_LIVES, "sh", *self._java, *self._logging, *kafka],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while b"Kafka Server started" not in self.log_file.read_bytes():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise KafkaUnavailable(f"Kafka did not start; its log ends: {self._end_of_log()}")
            time.sleep(0.1)

    def kill(self) -> None:
        """kill -9, and wait until it is gone. What it had acknowledged is found again at the next start."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()
        self._process = None

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and nothing is answered, until `thaw()`."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT after `freeze()`."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """End the broker and remove its records."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def log_file(self) -> Path:
        """What the broker of the newest start has said."""
        return self._folder / f"kafka-{self._starts}.log"

    def _signal(self, which: signal.Signals) -> None:
        assert self._process is not None, "start it first"
        os.killpg(self._process.pid, which)

    def _end_of_log(self) -> str:
        return " | ".join(self.log_file.read_text(errors="replace").splitlines()[-8:])[-1500:]

    def _write_configuration(self, controller_port: int, settings: Mapping[str, str]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        properties = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "listeners": f"PLAINTEXT://127.0.0.1:{self._port},CONTROLLER://127.0.0.1:{controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self._port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller_port}",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": str(self._folder / "records"),
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            # Fifty partitions of offsets are the default; one makes the first commit seconds faster.
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "1",
            "group.initial.rebalance.delay.ms": "0",
            **settings,
        }
        (self._folder / "log4j2.properties").write_text(_LOG4J2)
        configuration = self._folder / "server.properties"
        configuration.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
        tool = [*self._java, "kafka.tools.StorageTool"]
        # As the tool would make one, which takes a second; one that begins with - would look like an option.
        identity = base64.urlsafe_b64encode(b"k" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
        _answer([*tool, "format", "--standalone", "-t", identity, "-c", str(configuration)])


def run_tool(main_class: str, *arguments: str, given: str = "") -> str:
    """What one of Kafka's own command line tools prints, with `given` on its standard input."""
    command = [_program("java"), "-XX:TieredStopAtLevel=1", "-cp", _class_path(), main_class, *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=START_SECONDS, check=False)
    assert done.returncode == 0, f"{main_class} left with {done.returncode}: {done.stdout[-1000:]}{done.stderr[-1000:]}"
    return done.stdout


def _class_path() -> str:
    """Where Maven keeps Kafka's jars, asked once and then remembered in the user's cache folder."""
    content = hashlib.sha256(POM.read_bytes()).hexdigest()[:16]
    answer = (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headrace" / f"kafka-{content}.classpath"
    )
    if answer.exists():
        remembered = answer.read_text().strip()
        if all(Path(jar).exists() for jar in remembered.split(os.pathsep)):
            return remembered
    answer.parent.mkdir(parents=True, exist_ok=True)
    fresh = answer.with_suffix(f".{os.getpid()}")
    goal = "dependency:build-classpath"
    with answer.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Maven does not expect another one to fill the same repository
        _answer([_program("mvn"), "-q", "-B", "-f", str(POM), goal, f"-Dmdep.outputFile={fresh}"], MAVEN_SECONDS)
    fresh.replace(answer)
    return answer.read_text().strip()


def _answer(command: list[str], timeout_seconds: float = 60) -> str:
    """What a command prints; KafkaUnavailable with its first error in one line where it fails."""
    name = Path(command[0]).name
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise KafkaUnavailable(f"{name} gave no answer within {timeout_seconds} s") from error
    if done.returncode:
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        wrong = next((line for line in said if "ERROR" in line or "Exception" in line), "; ".join(said[-3:]))
        raise KafkaUnavailable(f"{name} failed: {wrong[:500]}")
    return done.stdout.strip()


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise KafkaUnavailable(f"no {name} on this machine")
    return found


def _free_ports(count: int) -> list[int]:
    """Ports nobody listens on. They are told apart by being held open at the same time."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in sockets]


def main() -> None:
    try:
        server = KafkaServer(Path(tempfile.mkdtemp(prefix="headrace-kafka-")))
        server.start()
    except KafkaUnavailable as error:
        sys.exit(str(error))
    print(server.bootstrap_servers, flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        sys.stdin.readline()
    server.close()


if __name__ == "__main__":
    main()
