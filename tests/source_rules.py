"""The rules of the house, as functions from a parsed source file to the places that break them.

Nothing here is imported or run: sources are read as syntax trees, so a made-up source can be judged as well as a
real one (test_architecture.py does both). A rule answers with lines `package/file.py:7: what is wrong`.
"""

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGES = ("producer", "consumer", "model")


@dataclass(frozen=True)
class Import:
    target: str
    """Absolute, dotted; for `from a import b` it is `a.b` where that is a file of ours, else `a`."""
    line: int
    type_only: bool
    """Under `if TYPE_CHECKING:`, so not there when the program runs."""


@dataclass(frozen=True)
class Source:
    name: str
    """Dotted; a package has the name of its folder."""
    path: str
    tree: ast.Module
    is_package: bool = False

    def at(self, line: int, message: str) -> str:
        return f"{self.path}:{line}: {message}"


def read_sources(root: Path) -> list[Source]:
    """Every source file of the three packages under `root`, in the order of their paths."""
    return [
        read_source(path.relative_to(root).as_posix(), path.read_text())
        for package in PACKAGES
        for path in sorted((root / package).rglob("*.py"))
    ]


def read_source(path: str, text: str) -> Source:
    parts = path.removesuffix(".py").split("/")
    is_package = parts[-1] == "__init__"
    return Source(".".join(parts[:-1] if is_package else parts), path, ast.parse(text), is_package)


def imports_of(source: Source, ours: Iterable[str]) -> list[Import]:
    """Every import of the file, inside functions too; `ours` are the names of all our modules."""
    known = set(ours)
    type_only = {id(node) for branch in _type_checking_branches(source.tree) for node in ast.walk(branch)}
    found = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(source, node)
            joined = [f"{base}.{alias.name}" for alias in node.names]
            targets = [name if name in known else base for name in joined]
        else:
            continue
        found += [Import(target, node.lineno, id(node) in type_only) for target in dict.fromkeys(targets)]
    return found


def _absolute(source: Source, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = source.name.split(".") if source.is_package else source.name.split(".")[:-1]
    base = package[: len(package) - (node.level - 1)]
    return ".".join([*base, *([node.module] if node.module else [])])


def _type_checking_branches(tree: ast.Module) -> Iterator[ast.stmt]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield from node.body


# Which way imports go. First pattern that fits the name of the file; what it may import of ours when it runs.
OURS_ALLOWED: list[tuple[str, tuple[str, ...]]] = [
    ("producer.*", ("producer.*",)),
    ("model.*", ("model.*",)),
    # Where parts meet: the commands, one a file, and the worker that `run` and `demo` share.
    ("consumer.commands.*", ("producer.*", "consumer.*", "model.*")),
    ("consumer.worker", ("consumer.*", "model.*", "producer.events")),
    ("consumer.__main__", ("consumer.cli",)),
    ("consumer.cli", ("consumer.commands.*", "consumer.config", "consumer.invocation")),
    ("consumer.invocation", ("consumer.config", "consumer.environment", "consumer.logs")),
    # The loop names the types of its parts, in the order of the flow; that it makes none of them: `loop_makes_no_part`.
    ("consumer.loop", ("consumer.source", "consumer.journal", "consumer.decode", "consumer.duplicates",
                       "consumer.records", "consumer.refreshes", "consumer.actions", "model.learner", "model.step",
                       "model.topk", "consumer.lists",
                       "consumer.publish", "consumer.metrics", "consumer.progress", "consumer.checkpoint",
                       "consumer.catalogue")),
    # Progress is one unit out of several parts, so it knows them; nothing but the loop and the worker knows it.
    ("consumer.progress", ("consumer.checkpoint", "consumer.duplicates", "consumer.journal",
                           "consumer.last_lists", "consumer.publish", "consumer.refreshes", "consumer.source",
                           "consumer.catalogue", "consumer.precopy",
                           "model.learner", "model.ragged", "model.state")),
    # Settings into a model; what happened into figures; figures onto the demo's screen.
    ("consumer.modelling", ("consumer.config", "consumer.environment", "consumer.processors", "consumer.turns",
                            "model.*")),
    ("consumer.observation", ("consumer.config", "consumer.metrics", "consumer.quality")),
    ("consumer.tally", ("consumer.loop", "consumer.lists", "consumer.quality", "producer.events")),
    ("consumer.screen", ("consumer.tally",)),
    # Stages that stand on the stage before, and halves of one thing.
    ("consumer.source", ("consumer.offsets", "consumer.partitions", "consumer.reading_client", "consumer.topics")),
    ("consumer.journal", ("consumer.source", "consumer.records", "consumer.durable")),
    ("consumer.catalogue", ("consumer.journal", "consumer.source", "producer.events", "model.entries",
                            "model.packing")),
    ("consumer.cold", ("model.evaluation", "model.interactions")),
    ("consumer.checkpoint", ("consumer.durable", "model.state")),  # how bytes get onto a disk
    ("consumer.refusals", ("consumer.checkpoint", "model.state")),  # what stands between a checkpoint and a start
    # How arrays grow, and how lists lie, is decided once.
    ("consumer.precopy", ("model.growth", "model.ragged", "model.state")),
    # How ids are laid out in a checkpoint, and how they are found again.
    ("consumer.duplicates", ("consumer.kernels.recent", "model.packing")),
    ("consumer.kernels.*", ("model.kernels.compiled",)),  # how a kernel is compiled is decided once
    ("consumer.decode", ("producer.events", "consumer.reasons", "consumer.records", "consumer.kernels.parse",
                         "model.ids")),
    ("consumer.reasons", ("producer.events",)),
    ("consumer.actions", ("producer.events", "consumer.kernels.parse", "model.interactions", "model.vocabulary")),
    ("consumer.lists", ("producer.events", "consumer.refreshes", "consumer.last_lists", "consumer.kernels.lists")),
    # How arrays grow, what moved, and how lists lie is said in one way.
    ("consumer.last_lists", ("consumer.kernels.lists", "model.growth", "model.moved", "model.ragged")),
    ("consumer.refreshes", ("consumer.records",)),
    ("consumer.publish", ("producer.events", "consumer.topics")),
    ("consumer.quality", ("model.evaluation",)),
    ("consumer.config", ("consumer.environment",)),
    ("consumer.*", ()),  # leaves
]  # fmt: skip

# Which libraries a package may use besides the standard library. None: any.
LIBRARIES_ALLOWED: list[tuple[str, tuple[str, ...] | None]] = [
    ("producer.*", ("msgspec", "confluent_kafka")),
    ("model.kernels.*", ("torch", "numpy", "numba", "llvmlite", "triton")),
    ("model.*", ("torch", "numpy")),
    ("consumer.loop", ()),
    ("consumer.kernels.*", ("numpy",)),
    ("consumer.*", None),
]

# Libraries that one place owns, so that they can be exchanged there.
OWNED: dict[str, tuple[str, ...]] = {
    "prometheus_client": ("consumer.metrics",),
    "river": ("consumer.quality",),
    "numba": ("model.kernels.*",),
    "llvmlite": ("model.kernels.*",),
    "triton": ("model.kernels.*",),
    "typer": ("consumer.cli", "consumer.commands.*"),
    "confluent_kafka": ("producer.*", "consumer.broker", "consumer.source", "consumer.reading_client",
                        "consumer.publish", "consumer.topics", "consumer.commands.*"),
}  # fmt: skip


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) or name == pattern.removesuffix(".*") for pattern in patterns)


def import_direction(source: Source, ours: Iterable[str]) -> list[str]:
    """Imports that go against the flow, or to a library that the file has no business with.

    The consumer's files may name each other's types under `if TYPE_CHECKING:`, since that binds nothing when
    the program runs; in producer/ and model/ such imports obey the same rule as all others.
    """
    ours_allowed = next(allowed for pattern, allowed in OURS_ALLOWED if _fits(source.name, [pattern]))
    libraries = next(allowed for pattern, allowed in LIBRARIES_ALLOWED if _fits(source.name, [pattern]))
    broken = []
    for found in imports_of(source, ours):
        top = found.target.split(".")[0]
        if top in PACKAGES:
            loose = found.type_only and source.name.startswith("consumer")
            wrong = not loose and not _fits(found.target, ours_allowed)
        elif top in sys.stdlib_module_names:
            wrong = False
        else:
            wrong = libraries is not None and top not in libraries
        if wrong:
            broken.append(source.at(found.line, f"{source.name} may not import {found.target}"))
        elif not _fits(source.name, OWNED.get(top, (source.name,))):
            broken.append(source.at(found.line, f"only {' and '.join(OWNED[top])} may import {top}"))
    return broken


def loop_makes_no_part(source: Source) -> list[str]:
    """Calls in consumer/loop.py of anything imported from another file of ours, a count of events left aside."""
    if source.name != "consumer.loop":
        return []
    imported = {
        alias.asname or alias.name
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES
        for alias in node.names
    }
    return [
        source.at(node.lineno, f"the loop gets its parts as arguments, and here it calls {ast.unparse(node.func)}")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[0] in imported - {"Counts"}
    ]


def import_cycle(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """A chain of files that import each other, its first also its last; empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def package_init(source: Source) -> list[str]:
    """What stands in an `__init__` file besides its docstring."""
    if not source.is_package:
        return []
    return [
        source.at(node.lineno, "an __init__ file holds its docstring and nothing else")
        for node in source.tree.body
        if not (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        )
    ]


# consumer.environment reads for consumer.config. producer.fetch: the folder of the data sets ($XDG_CACHE_HOME).
READ_THE_ENVIRONMENT = ("consumer.environment", "producer.fetch")


def environment(source: Source) -> list[str]:
    """Places that reach for environment variables outside the one file that reads them for the settings."""
    if source.name in READ_THE_ENVIRONMENT:
        return []
    names = {"environ", "environb", "getenv", "getenvb", "putenv"}
    broken = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            used = names & {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "os":
            used = names & {node.attr}
        else:
            continue
        broken += [source.at(node.lineno, f"os.{name}: settings travel as arguments") for name in sorted(used)]
    return broken


PICKLING_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def pickling(source: Source) -> list[str]:
    """Ways to load bytes that can run code: a state that somebody else wrote must not."""
    broken = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            named = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            broken += [source.at(node.lineno, f"{name} runs code") for name in named if name in PICKLING_MODULES]
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            allows = any(word.arg == "allow_pickle" and ast.unparse(word.value) != "False" for word in node.keywords)
            if called in ("torch.load", "torch.save", "torch.jit.load") or allows:
                broken.append(source.at(node.lineno, f"{called} runs code from a file: use safetensors"))
    return broken


OUTSIDE_OF_THE_MODEL = {
    "time", "datetime", "random", "secrets", "uuid", "os", "sys", "io", "pathlib", "shutil", "tempfile", "glob",
    "logging", "warnings", "subprocess", "socket", "threading", "multiprocessing",
}  # fmt: skip
FILES_AND_SCREEN = {
    "open", "print", "input", "np.load", "np.save", "np.savez", "np.savez_compressed", "np.fromfile", "np.memmap",
    "np.loadtxt", "np.savetxt", "torch.from_file",
}  # fmt: skip
DRAWS_OF_TORCH = {
    "rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like", "multinomial", "normal",
    "bernoulli", "poisson",
}  # fmt: skip
DRAWS_IN_PLACE = {
    "normal_", "uniform_", "random_", "bernoulli_", "exponential_", "log_normal_", "cauchy_", "geometric_",
}  # fmt: skip
GENERATORS_OF_NUMPY = {"Generator", "BitGenerator", "PCG64", "Philox", "SeedSequence", "default_rng"}


def model_purity(source: Source) -> list[str]:
    """What a model/ file takes from outside: clock, environment, files, screen, a random generator of the process."""
    if not _fits(source.name, ["model.*"]):
        return []
    broken = [
        source.at(found.line, f"model/ knows no {found.target}")
        for found in imports_of(source, ())
        if found.target.split(".")[0] in OUTSIDE_OF_THE_MODEL
    ]
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call):
            broken += [source.at(node.lineno, message) for message in _impure_call(node)]
        of_numpy = isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("np.random", "numpy.random")
        if of_numpy and node.attr not in GENERATORS_OF_NUMPY:
            broken.append(source.at(node.lineno, f"np.random.{node.attr}: the generator comes as an argument"))
    return broken


def _impure_call(call: ast.Call) -> Iterator[str]:
    called = ast.unparse(call.func).replace("numpy.", "np.")
    owner, _, name = called.rpartition(".")
    seeded = any(word.arg == "generator" for word in call.keywords)
    if called in FILES_AND_SCREEN or name == "tofile":
        yield f"{called}: model/ reads and writes nothing"
    if called in ("torch.manual_seed", "torch.seed", "torch.cuda.manual_seed", "torch.cuda.manual_seed_all"):
        yield f"{called}: the generator comes as an argument"
    if not seeded and ((owner == "torch" and name in DRAWS_OF_TORCH) or name in DRAWS_IN_PLACE):
        yield f"{called} without generator=: it would draw from the process's own"
    if called.endswith("default_rng") and not (call.args or call.keywords):
        yield f"{called}() without a seed"
