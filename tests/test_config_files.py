"""--config: a file of arguments, its mistakes, and flags, which win over it."""

from pathlib import Path

import pytest

import evaluate
import pretrain_mlm
import train_multitask
from minbert import UserError, export
from minbert.cli import parse_given, parse_with_positionals
from minbert.run import rundir
from minbert.run.mlm_args import Args as MlmArgs
from minbert.run.train_args import Args
from tests.conftest import arguments, logged, run

RECIPE = (Path(__file__).parents[1] / "recipes/one-model.toml").read_text()
TEXT = """
mode = "sequential"
tasks = ["sst", "sts"]
lr = 3e-5
skip_predictions = true
use_gpu = false

[limit]
sst = 100
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "run.toml").write_text(TEXT)
    return tmp_path / "run.toml"


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> list[Args | MlmArgs]:
    """The arguments of every --dry-run, which does nothing else, on any machine."""
    found: list[Args | MlmArgs] = []
    monkeypatch.setattr(rundir, "check_machine", lambda args: None)
    monkeypatch.setattr(train_multitask.dry_run, "show", lambda args, make: found.append(args))
    return found


def test_a_file_is_as_good_as_flags(config: Path) -> None:
    flags = "--mode sequential --tasks sst,sts --lr 3e-5 --skip-predictions --limit sst=100"
    flags += " --no-use-gpu"
    assert parse_given(Args, ["--config", str(config)], "") == parse_given(Args, flags.split(), "")


def test_a_byte_order_mark_is_no_part_of_a_file(config: Path) -> None:
    plain = parse_given(Args, ["--config", str(config)], "")
    config.write_text("\ufeff" + config.read_text(), encoding="utf-8")
    assert parse_given(Args, ["--config", str(config)], "") == plain


def test_a_file_turns_off_what_is_on_by_default(config: Path) -> None:
    config.write_text("correct_bias = false\n")
    assert parse_given(Args, ["--config", str(config)], "") == {"correct_bias": False}
    config.write_text("no_correct_bias = true\n")
    assert parse_given(Args, ["--config", str(config)], "") == {"correct_bias": False}


@pytest.mark.parametrize("order", [0, 1])
def test_flags_win(config: Path, order: int) -> None:
    words = [["--config", str(config)], ["--lr", "1e-3"]]
    given = parse_given(Args, words[order] + words[1 - order], "")
    assert given["lr"] == 1e-3 and given["mode"] == "sequential"


def test_a_list_is_several_files_where_a_flag_takes_several(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('corpus = ["a.txt", "b,c.txt"]\ntasks = ["sst"]\n')
    given = parse_given(MlmArgs, ["--config", str(tmp_path / "run.toml")], "")
    assert given == {"corpus": ("a.txt", "b,c.txt"), "tasks": ("sst",)}


def test_a_switch_of_the_file_can_be_turned_off(config: Path, capsys) -> None:
    words = ["--config", str(config), "--no-skip-predictions"]
    assert parse_given(Args, words, "")["skip_predictions"] is False
    with pytest.raises(SystemExit):
        parse_given(Args, ["--help"], "")
    assert "--no-skip" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lr =", "lrr =", r"run.toml: unknown argument '--lrr'; did you mean --lr\?"),
        ("3e-5", '"fast"', r"run.toml: --lr: 'fast' is not a number"),
        ("sst = 100", 'sst = 100\n[output_dir]\nx = "\\u0000"', "a NUL character in a value"),
        ("use_gpu", "use_gpuu", r"'--no-use-gpuu'; did you mean --no-use-gpu\?"),
        ('"sequential"', '"serial"', r"run.toml: --mode: invalid choice"),
        ("lr = 3e-5", "lr = ", r"--config .*run.toml: cannot be read"),
    ],
)
def test_mistakes(config: Path, old: str, new: str, message: str) -> None:
    config.write_text(TEXT.replace(old, new))
    with pytest.raises(UserError, match=message):
        parse_given(Args, ["--config", str(config)], "")


def test_of_several_files_the_last_one_wins(config: Path, tmp_path: Path) -> None:
    (tmp_path / "more.toml").write_text('lr = 1e-4\nmode = "annealed"\n')
    words = ["--config", str(config), "--config", str(tmp_path / "more.toml")]
    found = parse_given(Args, [*words, "--mode", "joint"], "")
    assert (found["lr"], found["mode"], found["tasks"]) == (1e-4, "joint", ("sst", "sts"))
    (tmp_path / "more.toml").write_text("no_lr = true\nno_use_gpu = true\n")
    found = parse_given(Args, words, "")
    assert "lr" not in found and found["mode"] == "sequential" and not found["use_gpu"]
    config.write_text('config = "more.toml"\n')
    with pytest.raises(UserError, match="config in a file; write --config twice"):
        parse_given(Args, ["--config", str(config)], "")


def test_a_missing_file() -> None:
    with pytest.raises(UserError, match=r"--config no.toml: cannot be read"):
        parse_given(Args, ["--config", "no.toml"], "")


@pytest.mark.parametrize(
    ("text", "words", "expected"),
    [
        ('kernels = "torch"', "--written-out", {"kernels": "written-out"}),
        ("written_out = true", "--kernels torch", {"kernels": "torch"}),
        ('device = "cpu"', "--use-gpu", {"device": "cuda"}),
        ("use_gpu = true", "--device cpu", {"device": "cpu"}),
        ('device = "cpu"', "--no-use-gpu", {"device": "cpu"}),
        ('fine_tune_mode = "full-model"', "--option pretrain", {"lr": 1e-3}),
        ('option = "pretrain"', "--fine-tune-mode full-model", {"lr": 1e-5}),
        ("lr = 1e-4", "--no-lr", {"lr": 1e-5}),  # whose default cannot be typed
        ('r_drop = "sst=4"', "--no-r_drop", {"r_drop": {}}),
    ],
)
def test_flags_win_over_what_a_file_says_in_other_words(
    config: Path, resolved: list[Args], text: str, words: str, expected: dict
) -> None:
    config.write_text(text)
    train_multitask.main(["--config", str(config), *words.split(), "--dry-run"])
    assert {name: getattr(resolved[0], name) for name in expected} == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "--written-out --kernels torch",
            "--written-out and --kernels torch contradict: write",
        ),
        ("--use-gpu --device cpu", "--use-gpu and --device cpu contradict: write one"),
        (
            "--option pretrain --fine-tune-mode full-model",
            "pretrain means --fine-tune-mode last",
        ),
    ],
)
def test_two_flags_contradict_as_ever(config: Path, words: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        train_multitask.main(["--config", str(config), *words.split()])
    assert "takes it back" not in str(error.value)  # neither stands in the file


def test_a_switch_in_a_file_is_true_or_false(config: Path) -> None:
    config.write_text('json = "yes"')
    with pytest.raises(UserError, match=r"--config \S+: json = 'yes': write true or false"):
        train_multitask.main(["--config", str(config)])


@pytest.mark.parametrize(
    ("text", "words", "advice"),
    [
        (RECIPE, "--mode parallel", "--no-anneal-to"),
        (RECIPE, "--mode single", "--no-anneal-to"),
        (RECIPE, "--sampling-power 0.5", "--no-anneal-to"),
        (RECIPE, "--batch-size adaptive", "--no-mode --no-anneal-to"),
        (RECIPE, "--fine-tune-mode last-linear-layer", "--no-pair-encoding"),
        (RECIPE, "--option pretrain", "--no-pair-encoding"),
        (RECIPE, "--pair-encoding siamese", "--no-r-drop"),
        (RECIPE, "--tasks sst,sts", "--no-pooling"),
        (RECIPE, "--tasks sst", "--no-pooling --no-pair-encoding --no-task-weight --no-r-drop"),
        ('fine_tune_mode = "last-linear-layer"', "--reinit-layers 1", "--no-fine-tune-mode"),
        ('mode = "sequential"', "--steps 9", "--no-mode"),
        ('kernels = "torch"\nwritten_out = true', "", "--no-written-out"),
        ('tasks = ["sst"]', "--corpus run.toml", "--no-tasks"),
        ('keep = "best"', "--held-out 0", "--no-keep"),
    ],
)
def test_a_refusal_says_what_stands_in_the_file_and_its_advice_works(
    config: Path, resolved: list[Args | MlmArgs], monkeypatch: pytest.MonkeyPatch, text: str,
    words: str, advice: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(config.parent)
    config.write_text(text)
    is_mlm = "--corpus" in words or "--held-out" in words
    main = (pretrain_mlm if is_mlm else train_multitask).main
    argv = ["--config", "run.toml", "--dry-run", *words.split()]
    for flag in advice.split():
        with pytest.raises(UserError, match=rf"; {flag.replace('--no-', '--')} stands in run.toml: "
                                            rf"{flag} takes it back") as error:  # fmt: skip
            main(argv)
        assert not [word for word in words.split() if f"{word} stands in" in str(error.value)]
        argv.append(flag)
    assert main(argv) == 0 and len(resolved) == 1


def test_a_run_without_what_was_taken_back(world: Path) -> None:
    (world / "run.toml").write_text(RECIPE)
    words = ["--config", str(world / "run.toml"), "--mode", "parallel", "--no-anneal-to"]
    train_multitask.main(arguments(world, *words, "--no-pooling", "--steps", "1", "--name", "run"))
    assert len(logged(world / "runs/run", "step")) == 1


def test_what_no_file_has_cannot_be_taken_back(config: Path) -> None:
    for words in (["--no-warmup"], ["--config", str(config), "--no-warmup"]):
        with pytest.raises(UserError, match="--no-warmup: no --config file has warmup to take ba"):
            train_multitask.main(words)


def test_a_switch_that_a_file_turns_off_is_named_where_it_stands(world: Path) -> None:
    run(world, "--name", "run", "--steps", "1", "--skip-predictions")
    (world / "run.toml").write_text("correct_bias = false\n")
    words = ["--config", str(world / "run.toml"), "--resume", str(world / "runs/run")]
    message = r"; --no-correct-bias stands in .*run.toml: --correct-bias takes it back"
    with pytest.raises(UserError, match=message):
        train_multitask.main(words)


def test_what_a_file_turns_off_is_not_set(config: Path) -> None:
    config.write_text("average = false\n")
    assert parse_given(Args, ["--config", str(config)], "") == {}


def test_a_refusal_names_no_flag_that_it_only_recommends(world: Path) -> None:
    text = f'model = "{world / "model"}"\ndata_dir = "{world / "data"}"\nepochs = 1\n'
    file = world / "run.toml"
    file.write_text(text + f'output_dir = "{world / "runs"}"\nskip_predictions = true\n')
    words = ["--config", str(file), "--tasks", "sst"]
    train_multitask.main([*words, "--name", "run"])
    file.write_text(file.read_text().replace("epochs = 1", "epochs = 2"))
    with pytest.raises(UserError, match=r"--no-epochs takes it back$"):
        train_multitask.main([*words, "--resume", "run"])


def test_evaluate_s_refusals_name_the_flag_that_takes_back_too(config: Path) -> None:
    config.write_text('gold = "dev.csv"\n')
    with pytest.raises(UserError, match=r"leave it out; --gold stands in .*: --no-gold takes it"):
        evaluate.main(["--config", str(config), "--checkpoint", "runs/a"])


def test_what_takes_back_has_no_value_beside_words_without_a_flag(config: Path) -> None:
    config.write_text('task = "sst"\nto = "onnx"\n')
    argv = ["run", "--config", str(config), "--no-task", "new"]
    places, args = parse_with_positionals(export.Args, argv, "", export.POSITIONALS)
    assert places == ["run", "new"] and (args.task, args.to) == ("", "onnx")


@pytest.mark.parametrize("words", ["--text a --pair b c", "--text a --data-dir d"])
def test_a_refusal_of_what_is_typed_names_no_file(config: Path, words: str) -> None:
    config.write_text('checkpoint = "run"')
    with pytest.raises(UserError, match=r"they go with --checkpoint|leave it out") as error:
        evaluate.main(["--config", str(config), *words.split()])
    assert "stands in" not in str(error.value)
