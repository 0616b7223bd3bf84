"""Runs that learn from teachers: what is learned when, of which rows, and what is refused."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

import train_multitask
from minbert import MultitaskModel, UserError
from minbert.data.encoded import chosen_rows
from minbert.files import HOST
from minbert.run import teachers
from minbert.run.resolve_args import resolve_arguments
from minbert.run_files import command_folder
from tasks import TASKS as BUILTIN
from tests.conftest import WORDS, make_world, run
from tests.own_tasks import arguments as own_arguments
from tests.test_start_from_run import ROWS, train, write_rows


def teach(world: Path) -> list[str]:
    """Train teachers; return the arguments of a run that learns from them."""
    run(world, "--name", "teachers", "--mode", "single", "--lr", "1e-3", "--skip-predictions")
    folder = world / "runs/teachers"
    return ["--teacher", f"sst={folder / 'sst'},sts={folder / 'sts'}", "--lr", "1e-3"]


def sst_texts(world: Path) -> list[str]:
    """The texts of SST's training rows, in the file's order."""
    lines = (world / "data/ids-sst-train.csv").read_text().splitlines()[1:]
    return [line.split("\t")[2] for line in lines]


def assert_said_by(
    teacher: Path, task: str, texts: list[str] | list[tuple[str, ...]], run: Path
) -> None:
    """What a run learns from is what its teacher says of these texts."""
    expected = MultitaskModel.load(teacher, "cpu").outputs(task, texts)
    np.testing.assert_allclose(np.load(outputs_of(run, task)), expected, atol=1e-5)


def outputs_of(run: Path, task: str) -> Path:
    """The file of a teacher's outputs, whose name has a hash of the rows."""
    (file,) = (run / "teachers").glob(f"{task}-*.npy")
    return file


@pytest.mark.parametrize("r_drop", [[], ["--r-drop", "sst=1,sts=1"]])
def test_a_teacher_s_outputs_are_what_is_learned_at_first(
    world: Path, r_drop: list[str], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    options = [*teach(world), *r_drop]
    targets, taught = [], train_multitask.distillation_targets

    def watched(task, labels, teacher, w):
        found = taught(task, labels, teacher, w)
        targets.append((task.name, w, found, labels))
        return found

    monkeypatch.setattr(train_multitask, "distillation_targets", watched)
    run(world, "--name", "run", *options)
    assert [w for _, w, *_ in targets] == pytest.approx([i / 19 for i in range(20)])
    assert "sst: " in (out := capsys.readouterr().out) and "reads its 40 training rows once" in out
    teacher = MultitaskModel.load(world / "runs/teachers/sst", "cpu")
    expected = torch.from_numpy(teacher.outputs("sst", sst_texts(world))).softmax(-1)
    name, w, first, labels = targets[0]
    assert name == "sst" and w == 0
    nearest = (first[:, None] - expected[None]).abs().sum(-1).min(1)
    assert nearest.values.max() < 1e-5
    assert [row % 5 for row in nearest.indices.tolist()] == labels.tolist()  # of the same row
    run(world, "--name", "again", *options)
    assert "reads its" not in capsys.readouterr().out


def test_of_a_run_of_one_step_the_labels_are_learned(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last step is the first one."""
    shares, taught = [], train_multitask.distillation_targets

    def watched(task, labels, teacher, label_share: float) -> torch.Tensor:
        shares.append(label_share)
        return taught(task, labels, teacher, label_share)

    monkeypatch.setattr(train_multitask, "distillation_targets", watched)
    run(world, *teach(world), "--steps", "1", "--skip-predictions")
    assert shares == [1.0]


def test_teachers_that_do_not_fit_are_refused(world: Path) -> None:
    folder = Path(teach(world)[1].split(",")[0].removeprefix("sst="))
    with pytest.raises(UserError, match=r"--teacher sts=.*: it has sst"):
        run(world, "--teacher", f"sts={folder}")
    with pytest.raises(UserError, match="--teacher sst=nobody: no such run; give a run's folder"):
        run(world, "--teacher", "nobody")
    with pytest.raises(UserError, match="--teacher sst=nobody: no such run; give a run's folder"):
        run(world, "--teacher", "nobody", "--dry-run")
    with pytest.raises(UserError, match=r"heads.safetensors; give a run's folder"):
        run(world, "--teacher", f"sst={world / 'model'}")
    with pytest.raises(UserError, match="--teacher quora: not one of --tasks sst,sts"):
        run(world, "--teacher", f"quora={folder}")
    with pytest.raises(UserError, match="--teacher sts: not of a siamese task"):
        run(world, "--teacher", f"sts={folder}", "--pair-encoding", "siamese")


def test_a_cosine_is_no_probability_to_teach(world: Path) -> None:
    one = ["--tasks", "quora", "--epochs", "1", "--skip-predictions"]
    run(world, "--name", "cosine", "--pair-encoding", "siamese", *one)
    run(world, "--name", "classifier", "--pair-encoding", "siamese", "--pair-loss", "softmax", *one)
    with pytest.raises(UserError, match=r"--teacher quora=.*cosine: a cosine is no probability"):
        run(world, "--teacher", str(world / "runs/cosine"), *one)
    assert run(world, "--teacher", str(world / "runs/classifier"), *one) == 0


def test_a_cosine_teaches_scores(world: Path) -> None:
    one = ["--tasks", "sts", "--epochs", "1", "--skip-predictions"]
    run(world, "--name", "cosine", "--pair-encoding", "siamese", *one)
    run(world, "--name", "taught", "--teacher", str(world / "runs/cosine"), *one)
    lines = (world / "data/sts-train.csv").read_text().splitlines()[1:]
    pairs = [tuple(line.split("\t")[2:4]) for line in lines]
    assert_said_by(world / "runs/cosine", "sts", pairs, world / "runs/taught")


def test_a_dry_run_asks_no_teacher(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [*teach(world), "--heads-first", "1", "--average", "0.5", "--dry-run"]
    capsys.readouterr()
    run(world, *options)
    out = capsys.readouterr().out
    assert "without evaluation, teachers, heads first, averaging\n" in out
    assert "trained first" not in out
    assert not (world / "runs/.teachers").exists()


def test_a_taught_run_goes_on_without_its_teachers(world: Path) -> None:
    run(world, "--name", "run", "--skip-predictions", *teach(world))
    shutil.rmtree(world / "runs/teachers")
    shutil.rmtree(world / "runs/.teachers")
    folder = world / "runs/run"
    assert train_multitask.main(["--resume", str(folder)]) == 0
    outputs_of(folder, "sst").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"--teacher sst=.*: no such run"):
        train_multitask.main(["--resume", str(folder)])


def test_outputs_that_a_kill_left_half_written_are_removed(world: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    half = world / f"runs/.teachers/sst.npy.{HOST}.{gone.pid}.new"
    half.parent.mkdir(parents=True)
    half.write_text("half")
    run(world, "--name", "run", "--skip-predictions", "--steps", "2", *teach(world))
    assert not half.exists()


def test_the_runs_of_a_command_have_their_teachers_in_common(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also one that has not begun when the teachers are gone."""
    options = [*teach(world), "--seeds", "2", "--steps", "4", "--skip-predictions"]
    run(world, "--name", "run", *options)
    assert capsys.readouterr().out.count("reads its 40 training rows once") == 1
    for gone in ("run/seed-11712", "teachers", ".teachers"):
        shutil.rmtree(world / "runs" / gone)
    assert train_multitask.main(["--resume", str(world / "runs/run")]) == 0
    assert (world / "runs/run/seed-11712/best").is_dir()


def test_one_of_several_runs_goes_on_in_its_own_folder_without_its_teachers(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(world, "--name", "run", *teach(world), "--seeds", "2", "--steps", "2", "--skip-predictions")
    for gone in ("teachers", ".teachers"):
        shutil.rmtree(world / "runs" / gone)
    monkeypatch.chdir(world / "runs/run/seed-11711")
    assert train_multitask.main(["--resume", "."]) == 0


def test_a_run_in_another_one_s_folder_has_its_own_teachers(world: Path) -> None:
    options = [*teach(world), "--skip-predictions", "--steps", "2"]
    run(world, "--name", "outer", *options)
    run(world, "--output-dir", str(world / "runs/outer"), "--name", "inner", *options)
    assert outputs_of(world / "runs/outer/inner", "sst").is_file()
    assert command_folder(world / "runs/outer/inner") == world / "runs/outer/inner"
    run(world, "--name", "two", *options, "--seeds", "2")
    run(world, "--output-dir", str(world / "runs/two"), "--name", "inner", *options)
    assert outputs_of(world / "runs/two/inner", "sst").is_file()
    assert command_folder(world / "runs/two/seed-11712") == world / "runs/two"


def test_seeds_that_have_not_begun_are_not_made_of_other_data(world: Path) -> None:
    options = [*teach(world), "--seeds", "2", "--steps", "4", "--skip-predictions"]
    run(world, "--name", "run", *options)
    shutil.rmtree(world / "runs/run/seed-11712")
    path = world / "data/ids-sst-train.csv"
    head, *rows = path.read_text().splitlines(keepends=True)
    path.write_text(head + "".join(rows[::-1]))
    with pytest.raises(UserError, match=r"ids-sst-train.csv: not what \S+seed-11711 began with"):
        train_multitask.main(["--resume", str(world / "runs/run")])


def test_a_teacher_reads_again_what_it_reads_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another column of the same file, another teacher of the same name, other rows."""
    world = make_world(tmp_path)
    rows = "".join(f"old cat {i % 3}\tnew dog {i % 5}\t{'ab'[i % 2]}\n" for i in range(20))
    (world / "data/own.tsv").write_text("title\tbody\tlabel\n" + rows)
    for column in ("title", "body"):
        (world / f"{column}.toml").write_text(
            '[own]\nkind = "classification"\ntrain = "own.tsv"\ndev = "own.tsv"\n'
            f'text = "{column}"\nlabel = "label"\nlabels = ["a", "b"]\n'
        )
    tasks = ["--tasks", "own", "--epochs", "1", "--skip-predictions", "--task-file"]
    run(world, "--name", "teacher", *tasks, str(world / "title.toml"))
    for number, column in enumerate(("title", "body", "title")):
        options = [*tasks, str(world / f"{column}.toml"), "--teacher", str(world / "runs/teacher")]
        run(world, "--name", f"run-{number}", *options)
        texts = [line.split("\t")[column == "body"] for line in rows.splitlines()]
        assert_said_by(world / "runs/teacher", "own", texts, world / f"runs/run-{number}")
    reads = "reads its 20 training rows once"
    assert capsys.readouterr().out.count(reads) == 2
    shutil.rmtree(world / "runs/teacher")
    run(world, "--name", "teacher", *tasks, str(world / "title.toml"), "--seed", "1")
    run(world, *options)
    assert capsys.readouterr().out.count(reads) == 1
    (world / "data/own.tsv").write_text("title\tbody\tlabel\n" + rows.replace("old", "new"))
    run(world, *options)
    assert capsys.readouterr().out.count(reads) == 1


def test_a_teacher_reads_again_in_another_precision(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`auto` is another one on another machine with the same disk."""
    options = [*teach(world), "--precision", "auto", "--steps", "1", "--skip-predictions"]
    for dtype, times in ((torch.float32, 2), (torch.bfloat16, 2), (torch.float32, 0)):
        monkeypatch.setattr(teachers, "choose_precision", lambda name, device, of=dtype: of)
        run(world, *options)
        assert capsys.readouterr().out.count("training rows once") == times


def test_a_teacher_of_classes_in_another_order_is_refused(own: Path) -> None:
    options = ["--tasks", "intent", "--skip-predictions", "--name"]
    train_multitask.main(own_arguments(own, *options, "teacher"))
    toml = own / "own.toml"
    toml.write_text(toml.read_text().replace('"walk", "rest"', '"rest", "walk"'))
    teacher = ["--teacher", str(own / "runs/teacher")]
    with pytest.raises(UserError, match="its intent has other labels"):
        train_multitask.main(own_arguments(own, *options, "taught", *teacher))


def test_a_teacher_s_outputs_are_of_the_rows_that_are_trained_on(world: Path) -> None:
    options, every = [*teach(world), "--steps", "2", "--skip-predictions"], sst_texts(world)
    for rows in (8, 12):
        run(world, "--name", f"of-{rows}", *options, "--limit", str(rows))
        texts = [every[row] for row in chosen_rows(len(every), rows)]
        assert_said_by(world / "runs/teachers/sst", "sst", texts, world / f"runs/of-{rows}")


def test_a_teacher_reads_again_where_other_rows_are_dev_rows(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of the run that one starts from leave as many rows to train on, but others."""
    texts = [f"{one} {other}" for one in WORDS[:7] for other in WORDS[:6]]
    rows = [(row_id, text, label) for (row_id, _, label), text in zip(ROWS, texts, strict=False)]
    write_rows(own, rows, with_ids=False)
    dev_rows = train(own, "teacher")
    write_rows(own, rows[::-1], with_ids=False)
    teacher = str(own / "runs/teacher")
    taught = ["--teacher", teacher, "--precision", "fp32"]
    capsys.readouterr()
    others = train(own, "new", *taught)
    assert others != dev_rows
    assert train(own, "started", *taught, "--model", teacher) == dev_rows
    for name, left_out in (("new", others), ("started", dev_rows)):
        texts = [text for _, text, _ in rows[::-1] if text not in left_out]
        assert_said_by(own / "runs/teacher", "intent", texts, own / "runs" / name)
    assert capsys.readouterr().out.count("reads its 30 training rows once") == 2


def test_a_task_s_own_teacher_goes_before_that_of_all() -> None:
    given = {"tasks": ("sst", "sts"), "teacher": {"": "common", "sst": "own"}}
    assert resolve_arguments(given, BUILTIN).teacher == {"sst": "own", "sts": "common"}


def test_a_teacher_reads_texts_of_its_own_length(world: Path) -> None:
    run(world, "--name", "run", *teach(world), "--max-length", "5", "--skip-predictions")
    assert_said_by(world / "runs/teachers/sst", "sst", sst_texts(world), world / "runs/run")
