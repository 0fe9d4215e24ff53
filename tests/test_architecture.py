"""The shape of the code: which way imports go, what each file may touch, and that each has its test.

Every rule is first shown to catch a made-up source that breaks it, then asked about the real ones.
"""

from pathlib import Path

import pytest
import source_rules
from source_rules import Source, import_cycle, import_direction, imports_of, read_source, read_sources

ROOT = Path(__file__).parent.parent
SOURCES = read_sources(ROOT)
NAMES = [source.name for source in SOURCES]

TESTED_ELSEWHERE: dict[str, tuple[str, str]] = {
    "consumer/__main__.py": ("test_cli.py", "calls cli.main, and test_packaging.py covers where it cannot"),
    "consumer/commands/click.py": ("test_commands_producing.py", "one contract for all that send events"),
    "consumer/commands/forget.py": ("test_commands_producing.py", "one contract for all that send events"),
    "consumer/commands/rate.py": ("test_commands_producing.py", "one contract for all that send events"),
    "consumer/commands/watch.py": ("test_commands_producing.py", "reads what they send, on the same broker"),
    "producer/checking.py": ("test_client.py", "what it refuses is what sending refuses"),
    "model/step.py": ("test_learner.py", "what a step says is tested where it is made"),
    "model/rating_choice.py": ("test_rating_model.py", "makes the models, each of which is tested there"),
}
"""A source file without a test file of its own name -> the test file that covers it, and why."""


def test_there_are_sources_to_judge() -> None:
    assert {"producer.events", "consumer.loop", "model.learner"} <= set(NAMES)


@pytest.mark.parametrize(
    ("path", "text", "complaint"),
    [
        ("producer/made.py", "import torch", "producer.made may not import torch"),
        ("producer/made.py", "import torch.nn.functional as F", "producer.made may not import torch.nn.functional"),
        ("producer/made.py", "def f():\n    import numpy", "producer.made may not import numpy"),
        ("producer/made.py", "from consumer import loop", "producer.made may not import consumer.loop"),
        ("producer/made.py", "from ..model import learner", "producer.made may not import model.learner"),
        ("producer/made.py", "if TYPE_CHECKING:\n    import torch", "producer.made may not import torch"),
        ("consumer/loop.py", "import consumer.config", "consumer.loop may not import consumer.config"),
        ("consumer/loop.py", "from model.tables import Table", "consumer.loop may not import model.tables"),
        ("consumer/loop.py", "import confluent_kafka", "consumer.loop may not import confluent_kafka"),
        ("consumer/made.py", "from . import loop", "consumer.made may not import consumer.loop"),
        ("consumer/made.py", "import model.learner", "consumer.made may not import model.learner"),
        ("consumer/cli.py", "import model.learner", "consumer.cli may not import model.learner"),
        ("consumer/made.py", "import prometheus_client", "only consumer.metrics may import prometheus_client"),
        ("consumer/commands/made.py", "from river import drift", "only consumer.quality may import river"),
        ("consumer/made.py", "import numba", "only model.kernels.* may import numba"),
        ("consumer/decode.py", "import confluent_kafka", "may import confluent_kafka"),
        ("model/made.py", "import numba", "model.made may not import numba"),
        ("model/encoders/made.py", "import triton", "model.encoders.made may not import triton"),
        ("model/made.py", "from producer.events import Click", "model.made may not import producer.events"),
        ("model/made.py", "import confluent_kafka", "model.made may not import confluent_kafka"),
        ("model/kernels/made.py", "import scipy", "model.kernels.made may not import scipy"),
    ],
)
def test_an_import_against_the_flow_is_caught(path: str, text: str, complaint: str) -> None:
    source = read_source(path, text)

    broken = import_direction(source, NAMES)

    assert len(broken) == 1
    assert complaint in broken[0]
    assert broken[0].startswith(f"{path}:")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("producer/made.py", "import json, msgspec\nfrom confluent_kafka import Producer\nfrom producer import events"),
        ("consumer/made.py", "if TYPE_CHECKING:\n    from consumer.source import Record"),
        ("consumer/commands/made.py", "import torch\nfrom consumer import loop\nfrom model.learner import Learner"),
        ("consumer/metrics.py", "import prometheus_client"),
        ("consumer/loop.py", "from consumer.decode import Events"),
        ("model/made.py", "import math, torch\nimport numpy as np\nfrom model.vocabulary import Vocabulary"),
        ("model/kernels/made.py", "import numba\nfrom . import compiled"),
    ],
)
def test_an_import_with_the_flow_is_let_through(path: str, text: str) -> None:
    assert import_direction(read_source(path, text), NAMES) == []


def test_imports_go_one_way() -> None:
    assert [line for source in SOURCES for line in import_direction(source, NAMES)] == []


def test_a_cycle_is_found_and_told_as_a_chain() -> None:
    graph = {"a": ["b"], "b": ["c"], "c": ["a", "d"], "d": []}

    cycle = import_cycle(graph)

    assert cycle[0] == cycle[-1]
    assert set(cycle) == {"a", "b", "c"}


def test_no_files_import_each_other() -> None:
    graph = {
        source.name: [found.target for found in imports_of(source, NAMES) if not found.type_only] for source in SOURCES
    }

    assert import_cycle(graph) == []


@pytest.mark.parametrize(
    ("rule", "path", "text", "complaint"),
    [
        ("package_init", "model/__init__.py", '"""Doc."""\nfrom model.learner import Learner', "docstring and nothing"),
        ("package_init", "consumer/__init__.py", "VERSION = 1", "docstring and nothing"),
        ("loop_makes_no_part", "consumer/loop.py", "from consumer.source import Source\nSource()", "calls Source"),
        ("loop_makes_no_part", "consumer/loop.py", "from model import topk\ntopk.TopK()", "calls topk.TopK"),
        ("environment", "consumer/made.py", "import os\nx = os.environ['A']", "os.environ"),
        ("environment", "consumer/made.py", "import os\nx = os.getenv('A')", "os.getenv"),
        ("environment", "producer/made.py", "from os import environ", "os.environ"),
        ("pickling", "consumer/made.py", "import pickle", "pickle runs code"),
        ("pickling", "consumer/made.py", "torch.load(path, weights_only=True)", "torch.load"),
        ("pickling", "consumer/made.py", "np.load(path, allow_pickle=True)", "np.load"),
        ("model_purity", "model/made.py", "import time", "model/ knows no time"),
        ("model_purity", "model/made.py", "from random import choice", "model/ knows no random"),
        ("model_purity", "model/kernels/made.py", "from os import path", "model/ knows no os"),
        ("model_purity", "model/made.py", "from datetime import datetime", "model/ knows no datetime"),
        ("model_purity", "model/made.py", "open('a')", "open"),
        ("model_purity", "model/made.py", "def f():\n    print(1)", "print"),
        ("model_purity", "model/made.py", "np.save(path, a)", "np.save"),
        ("model_purity", "model/made.py", "np.random.seed(1)", "np.random.seed"),
        ("model_purity", "model/made.py", "np.random.shuffle(a)", "np.random.shuffle"),
        ("model_purity", "model/made.py", "np.random.default_rng()", "without a seed"),
        ("model_purity", "model/made.py", "torch.manual_seed(1)", "torch.manual_seed"),
        ("model_purity", "model/made.py", "torch.randn(3)", "without generator="),
        ("model_purity", "model/made.py", "rows_ID.normal_(0, 1)", "without generator="),
    ],
)
def test_a_source_that_breaks_a_rule_is_caught(rule: str, path: str, text: str, complaint: str) -> None:
    broken = getattr(source_rules, rule)(read_source(path, text))

    assert len(broken) == 1
    assert complaint in broken[0]


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        ("package_init", "model/__init__.py", '"""Doc."""'),
        ("package_init", "model/made.py", "import torch"),
        ("loop_makes_no_part", "consumer/loop.py", "from consumer.checkpoint import Counts\nCounts(1, 2, 3)"),
        ("loop_makes_no_part", "consumer/loop.py", "from model.learner import Learner\nparts.learner.learn()"),
        ("environment", "consumer/environment.py", "import os\nx = os.environ['A']"),
        ("environment", "consumer/made.py", "import os\nos.fsync(1)\nsettings.environ"),
        ("pickling", "consumer/made.py", "np.load(path, allow_pickle=False)"),
        ("model_purity", "consumer/made.py", "import time\nprint(1)"),
        ("model_purity", "model/made.py", "rng = np.random.default_rng(seed)\nx: np.random.Generator"),
        ("model_purity", "model/made.py", "torch.randn(3, generator=g)\nrows_ID.normal_(generator=g)"),
    ],
)
def test_a_source_that_keeps_a_rule_is_let_through(rule: str, path: str, text: str) -> None:
    assert getattr(source_rules, rule)(read_source(path, text)) == []


@pytest.mark.parametrize("rule", ["package_init", "loop_makes_no_part", "environment", "pickling", "model_purity"])
def test_every_source_keeps_the_rule(rule: str) -> None:
    assert [line for source in SOURCES for line in getattr(source_rules, rule)(source)] == []


def test_the_exceptions_to_the_environment_rule_are_still_needed() -> None:
    reading = {source.name for source in SOURCES if "os.environ" in (ROOT / source.path).read_text()}

    assert reading == set(source_rules.READ_THE_ENVIRONMENT)


def untested(sources: list[Source], test_files: set[str]) -> list[str]:
    """Files without a test of their name, of their folder's name (`commands/`, `encoders/`), or a listed reason."""
    missing = []
    for source in sources:
        _, *folders, stem = source.path.removesuffix(".py").split("/")
        own = {f"test_{name}.py" for name in [stem, *folders, "_".join([*folders, stem])]}
        listed = TESTED_ELSEWHERE.get(source.path, ("", ""))[0]
        if not source.is_package and not test_files & (own | {listed}):
            missing.append(source.path)
    return missing


def test_a_file_without_a_test_is_caught() -> None:
    sources = [read_source(f"model/{path}.py", "") for path in ("lonely", "tested", "encoders/one", "__init__")]

    missing = untested(sources, {"test_tested.py", "test_encoders.py"})

    assert missing == ["model/lonely.py"]


def test_every_source_file_has_its_test() -> None:
    assert untested(SOURCES, {path.name for path in (ROOT / "tests").glob("test_*.py")}) == []


def test_the_list_of_files_tested_elsewhere_is_not_stale() -> None:
    for path, (test_file, reason) in TESTED_ELSEWHERE.items():
        assert (ROOT / path).exists(), path
        name = Path(path).stem if Path(path).stem != "__main__" else "consumer"
        assert name in (ROOT / "tests" / test_file).read_text(), f"{test_file} does not know {path}"
        assert not (ROOT / "tests" / f"test_{Path(path).stem}.py").exists(), f"{path} has a test of its own now"
        assert reason
