from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.forks import FORKS

try:
    from hypothesis import settings
except ModuleNotFoundError:  # a bare GPU image, where only the tests of the kernels run
    pass
else:  # a landing must not hang on chance: the same examples every run there, new ones elsewhere
    settings.register_profile("ci", derandomize=True, deadline=None)
    if os.environ.get("CI"):
        settings.load_profile("ci")

TESTS = Path(__file__).resolve().parent
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["WANDB_MODE"] = "offline"
os.environ["XDG_CONFIG_HOME"] = os.devnull  # no configuration of whoever runs the tests
os.environ.pop("ISOFLOP_CONFIG_DIR", None)


# What takes longest, the longest first, by processor time: whole runs, most on several ranks. Left for the end, where
# files of few tests come, a worker would wait for them.
LONGEST = (
    "trainer/training/optimizers/test_layouts.py",
    "trainer/training/test_resume.py",
    "trainer/scaling/test_sweep.py",
    "trainer/training/test_layouts.py",
    "trainer/training/test_expert_layouts.py",
    "trainer/training/diagnostics/test_diagnosed_runs.py",
    "trainer/training/faults/test_runs.py",
    "trainer/training/test_expert_ranks.py",
    "trainer/training/faults/test_damaged_data.py",
    "trainer/run/test_finetune_families.py",
    "extending/test_optimizer.py",
    "trainer/training/faults/test_chaos.py",
    "trainer/training/test_dropout_layouts.py",
    "trainer/training/test_sequence_layouts.py",
    "trainer/training/test_growing_batches.py",
    "trainer/training/test_wire.py",
    "launch/test_listeners.py",
    "trainer/training/test_depth_layouts.py",
    "trainer/training/faults/test_pausing.py",
    "trainer/run/test_deberta.py",
    "plugins/test_example.py",
    "extending/test_model_parts.py",
    "extending/test_launcher.py",
)


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config.option, "loadscopereorder"):  # pytest-xdist: files go out in the order below
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of workers that share the tests: the longest files first, then those of many tests, as pytest-xdist has them."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        tests, longest = Counter(item.path for item in items), {name: place for place, name in enumerate(LONGEST)}
        place = {path: longest.get(str(path.relative_to(TESTS)), len(LONGEST)) for path in tests}
        items.sort(key=lambda item: (place[item.path], -tests[item.path]))


@pytest.fixture(autouse=True)
def environment_restored() -> Iterator[None]:
    """What runs inside a test sets variables for its ranks (a node's name, threads): no later test sees them."""
    before = dict(os.environ)
    yield
    after = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    for name in after.keys() - before.keys():
        del os.environ[name]
    for name, value in before.items():
        if name != "PYTEST_CURRENT_TEST" and after.get(name) != value:
            os.environ[name] = value


@pytest.fixture(scope="session", autouse=True)
def fonts_listed_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Without a folder for settings matplotlib looks for the fonts of this host in every process that draws."""
    os.environ["MPLCONFIGDIR"] = str(tmp_path_factory.mktemp("matplotlib"))


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty small documents over a vocabulary of 400 invented words."""
    folder = tmp_path_factory.mktemp("corpus")
    chance = random.Random(0)
    words = ["".join(chance.choices("abcdefghij", k=chance.randint(2, 7))) for _ in range(400)]
    for number in range(60):
        lines = [" ".join(chance.choices(words, k=12)) for _ in range(40)]
        (folder / f"d{number:03}.txt").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="session")
def tiny(corpus: Path, cache: Path) -> list[str]:
    """Overrides of a run that takes seconds, in fp32."""
    return [
        "data=text",
        f"data.path={corpus}",
        "data.sequence_length=32",
        f"run.cache={cache}",
        "tokenizer.vocabulary=512",
        "model.depth=2",
        "model.width=32",
        "optim.batch_size=12",
        "budget.steps=12",
        "evaluation.every_steps=6",
        "checkpoint.every_steps=4",
        "checkpoint.keep_last=10",
        "engine.precision=fp32",
        "engine.threads=1",
        "tracker.console=plain",
        "tracker.every_steps=1",
    ]


@pytest.fixture(scope="session")
def small_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """800 pieces of the standard library's source."""
    from trainer.config import TokenizerConfig
    from trainer.data.tokenizer import train

    modules = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:20]
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    texts = [module.read_text(errors="ignore") for module in modules]
    file.write_bytes(train(texts, TokenizerConfig(vocabulary=800)))
    return file


def multilingual(languages: tuple[str, ...]) -> bytes:
    """A small tokenizer with a token for each language."""
    from trainer.config import TokenizerConfig
    from trainer.data.tokenizer import train

    symbols = tuple(f"<{language}>" for language in languages)
    return train([SENTENCES * 20], TokenizerConfig(vocabulary=420, symbols=symbols))


SENTENCES = "the cats sleep near the dogs\na dog sees the old cat\n"
FAMILIES = {"causal": "decoder", "prefix_lm": "decoder", "fim": "decoder", "masked_lm": "encoder"}


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory, small_tokenizer: Path) -> Callable[..., Path]:
    """untrained(objective, **keys of the model): the folder of a run with small random weights; of several `languages`
    for mbart."""

    def make(objective: str = "causal", languages: tuple[str, ...] = (), **model: object) -> Path:
        import torch

        from trainer.config import Config
        from trainer.models import build, initialize
        from trainer.run_folder import RunFolder
        from trainer.training.checkpoint import save_weights

        family = FAMILIES.get(objective, "encoder_decoder")
        shape = {"depth": 2, "width": 32, "heads": 4, "vocabulary": 832, "family": family, **model}
        shape |= {"head_bias": True, "head_transform": True} if family == "encoder" else {}
        noises = {"noises": ["text_infilling"]} if objective in ("bart", "mbart") else {}
        sources = {name: {"path": ["x"], "language": name} for name in languages}
        config = Config.model_validate(
            {
                "model": shape,
                "objective": {"name": objective, **noises},
                "tokenizer": {"vocabulary": 800},
                "engine": {"precision": "fp32"},  # not what this processor has
                "data": {"sequence_length": 64, **({"name": "mixture", "sources": sources} if sources else {})},
            }
        )
        net = build(config)
        initialize(net, 0)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
        run = RunFolder(tmp_path_factory.mktemp(objective) / "run")
        run.path.mkdir()
        run.config.write_text(config.to_yaml())
        run.tokenizer.write_bytes(multilingual(languages) if languages else small_tokenizer.read_bytes())
        save_weights(run.checkpoints, {name: value.detach() for name, value in net.named_parameters()}, {"best": {}})
        return run.path

    return make


@pytest.fixture(scope="session", autouse=True)
def forks_ended() -> Iterator[None]:
    yield
    FORKS.close()


class Command:
    """The `isoflop` command as a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def arguments(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "trainer", *words]

    def __call__(self, *words: str, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
        """A fork of a process that has imported the libraries; one of its own where it has an environment of its own,
        which libraries may read as they are imported."""
        if not environment:
            return FORKS.run([*words], self.folder, {**os.environ}, timeout)
        return subprocess.run(
            self.arguments(*words),
            cwd=self.folder,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def kill_when(self, ready: Callable[[str], bool], *words: str, poll: float = 0.01) -> str:
        """Start, wait until `ready(output so far)`, kill -9 the whole group; returns the output."""
        out = self.folder / "killed.txt"
        with open(out, "w") as file:
            process = subprocess.Popen(
                self.arguments(*words), cwd=self.folder, stdout=file, stderr=file, start_new_session=True
            )
        try:
            deadline = time.monotonic() + 300
            while not ready(out.read_text()):
                assert process.poll() is None, f"ended before it could be killed:\n{out.read_text()}"
                assert time.monotonic() < deadline, f"never ready to be killed:\n{out.read_text()}"
                time.sleep(poll)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return out.read_text()


@pytest.fixture(scope="session")
def command() -> type[Command]:
    """For fixtures of a wider scope than one test."""
    return Command


@pytest.fixture
def isoflop(tmp_path: Path) -> Command:
    return Command(tmp_path)
