"""Every flag and default of the three scripts does what it says; see tests/flag_checks.py."""

import json
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

import benchmarks.__main__ as benchmarks
import evaluate
import train_multitask
from benchmarks import quality
from experiments import figures, long_texts, one_model, paper
from minbert import BertModel, UserError, doctor, export
from minbert.cli import flag_of, parse_given
from minbert.report import __main__ as report
from minbert.run_files import read_arguments
from tasks import download, sample
from tests.conftest import TINY, make_world
from tests.flag_checks import CHECKS, SCRIPTS, WATCH
from tests.flags import BASE, Outcome, Row, defaults, start

COMMANDS = {  # beside the three scripts
    module.__name__: module
    for module in (
        benchmarks, doctor, download, export, figures, long_texts, one_model, paper, quality,
        report, sample,
    )
}  # fmt: skip
EVERY = [(script, name) for script, checks in CHECKS.items() for name in checks]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world with all that a check names: another model, fewer rows, files, a run to evaluate."""
    world = make_world(tmp_path_factory.mktemp("flags"))
    BertModel(TINY).save_pretrained(world / "other")
    shutil.copy(world / "model/vocab.txt", world / "other")
    shutil.copytree(world / "data", world / "fewer")
    for path in (world / "fewer").glob("*-train.csv"):
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:17]))
    (world / "corpus.txt").write_text("the red cat runs here\n" * 40)
    (world / "lines.txt").write_text("red\nblue cat\n")
    (world / "mine.toml").write_text("warmup = 4\n")
    (world / "text.toml").write_text('checkpoint = "run"\ntext = "red"\n')
    train = start(SCRIPTS["train_multitask"], world, "--epochs 1", [])
    shutil.move(train.folder, world / "run")
    shutil.copy(world / "run/predictions/sst-dev-output.csv", world / "dev.csv")
    start(SCRIPTS["evaluate"], world, "--model model --emit reference.pt", [])
    return world


def place_of(template: Path, folder: Path) -> Path:
    """Make a folder to start in, where a run finds the template's files and leaves its own."""
    for path in template.iterdir():
        if path.name not in ("checkpoints", "run"):
            (folder / path.name).symlink_to(path)
    shutil.copytree(template / "run", folder / "run")
    return folder


class Runs:
    """Runs of the scripts in worlds like the template's; one with the same words is made once."""

    def __init__(self, template: Path, folders: pytest.TempPathFactory) -> None:
        self.template, self.folders = template, folders
        self.made: dict[str, Outcome] = {}

    def of(self, script: str, words: str = "", ignored: str = "") -> Outcome:
        """Return what a script does with these words, but for those of the argument it ignores."""
        left = f"{script} {BASE[script]} {words}".rstrip()
        if ignored:
            left = re.sub(rf" --(no-)?{ignored.replace('_', '-')}\b(?!-)( (?!--)\S+)?", "", left)
        if left not in self.made:
            place = place_of(self.template, self.folders.mktemp(script))
            self.made[left] = start(SCRIPTS[script], place, words, WATCH[script], without=ignored)
        return self.made[left]

    def base(self, script: str) -> Outcome | None:
        """Return what a training script does without the words of a check."""
        return None if script == "evaluate" else self.of(script)


@pytest.fixture(scope="module")
def runs(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(template, tmp_path_factory)


def check_of(script: str, name: str) -> Row:
    """Return a check; its run makes no predictions, a fifth of its time, unless it looks there."""
    words, check = CHECKS[script][name]
    if script == "train_multitask" and name not in ("skip_predictions", "limit_dev"):
        words = f"{words} --skip-predictions"
    return words, check


@pytest.mark.parametrize(("script", "name"), EVERY)
def test_a_flag_counts(runs: Runs, script: str, name: str) -> None:
    words, check = check_of(script, name)
    run = runs.of(script, words)
    assert check(run, runs.base(script)), run.error or run.out


@pytest.mark.thorough
@pytest.mark.parametrize(("script", "name"), EVERY)
def test_a_check_fails_when_its_flag_is_ignored(runs: Runs, script: str, name: str) -> None:
    words, check = check_of(script, name)
    run = runs.of(script, words, ignored=name)
    try:
        passed = check(run, runs.base(script))
    except Exception:  # of what is not there then: a file, a line, a call
        passed = False
    assert not passed


@pytest.mark.parametrize("script", CHECKS)
def test_every_argument_has_a_check(script: str) -> None:
    assert set(CHECKS[script]) == {*defaults(SCRIPTS[script].Args), "config"}


@pytest.mark.parametrize("script", [*CHECKS, *COMMANDS])
def test_defaults_are_those_that_are_written_down(script: str) -> None:
    """tests/defaults.json is changed by hand, beside the paper and docs/usage.md."""
    known = json.loads(Path(__file__).with_name("defaults.json").read_text())[script]
    arguments = (SCRIPTS | COMMANDS)[script].Args
    assert json.loads(json.dumps(defaults(arguments))) == known


@pytest.mark.parametrize("script", ["train_multitask", "pretrain_mlm"])
def test_a_default_that_is_written_out_changes_nothing(runs: Runs, script: str) -> None:
    """Each of base's arguments as a flag: what runs is what the arguments say."""
    base = runs.base(script)
    args, words = read_arguments(base.folder), []
    for name, value in args.items():
        if isinstance(value, bool) or value in (None, "", [], {}):
            continue
        said = ",".join(value) if isinstance(value, list) else value
        words.append(f"--{name.replace('_', '-')} {said}")
    run = runs.of(script, " ".join(words))
    assert not run.error and len(words) > 15 and not run.differs(base)


@pytest.mark.parametrize("script", [*SCRIPTS, *COMMANDS])
def test_an_empty_value_is_none(script: str) -> None:
    """As of `--teacher "$RUN"` with RUN unset, which would train without one."""
    args = {**SCRIPTS, **COMMANDS}[script].Args
    for f in fields(args):
        if isinstance(f.default, bool) or f.metadata.get("may_be_empty"):
            continue
        for empty in ("", " "):
            with pytest.raises(UserError, match=f"{flag_of(f.name)}: empty: leave it out"):
                parse_given(args, [flag_of(f.name), empty], "")
    with pytest.raises(UserError, match="--config: empty: leave it out"):
        parse_given(args, ["--config", ""], "")


@pytest.mark.parametrize(
    ("main", "words", "message"),
    [
        (report.main, "''", r"a word of RUN\S* is empty: leave it out"),
        (export.main, "RUN ' '", "a word of RUN NEW_DIRECTORY is empty: leave it out"),
        (export.main, "R O --to onnx --quantize int8 --data-dir no", "--data-dir no: no such dir"),
        (download.main, "--tasks ,", "--tasks: ',' has nothing between its commas"),
        (benchmarks.main, "--only ,", "--only: ',' has nothing between its commas"),
        (paper.main, "--table 4 --only parallel", "--table 4 is one run, parallel: leave --only"),
        (evaluate.main, "--score f --gold g --threads 4", "--threads does nothing beside --score"),
        (evaluate.main, "--verify f --atol nan", "--atol: nan: write a number from 0 to"),
        (evaluate.main, "--verify f --rtol -1", "--rtol: -1: write a number from 0 to"),
        (evaluate.main, "--checkpoint run --output -", "--output -: a folder for the files of all"),
        (train_multitask.main, "--batch-size 2000000", "write a number from 1 to 1000000, or adap"),
    ],
)
def test_what_a_command_would_ignore_or_misread_is_refused(
    main: Callable[[list[str]], int], words: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        main(shlex.split(words))
