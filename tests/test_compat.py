"""Scripts in the form of the courses' own run unchanged in their folders by python -m compat."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

import compat.__main__ as compat
from compat.fallback.utils import get_extended_attention_mask
from minbert import Batch, BertModel, UserError
from minbert.model.heads import HeadConfig
from minbert.model.multitask import MultitaskNetwork, save_multitask
from minbert.weights.resolve import resolve
from minbert.weights.verify import sanity_inputs
from tests.conftest import TINY
from tests.courses import CLASSIFIER, MULTITASK, OPTIMIZER_TEST, READY, ROWS, SANITY_CHECK, STARTER
from tests.forked import Command, Outcome

ROOT = Path(__file__).resolve().parents[1]
HEADS = {"sst": HeadConfig(5), "quora": HeadConfig(1), "sts": HeadConfig(1, unit=2.0, shift=1)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A course's folder as a student has it."""
    for name, text in STARTER.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def run_script(folder: Path, source: str, *words: str, model: str = "all-MiniLM-L6-v2") -> Outcome:
    (folder / "script.py").write_text(source)
    environment = {"MINBERT_MODEL": model}
    argv = [str(folder), "script.py", *words]
    return Command("compat", argv, folder, environment=environment).finish()


def test_a_directory_of_weights_is_that_of_where_it_was_named(tmp_path: Path) -> None:
    """The script runs in the course's folder."""
    for name in ("weights", "course"):
        (tmp_path / name).mkdir()
    (tmp_path / "course/script.py").write_text("import os; print(os.environ['MINBERT_MODEL'])")
    for named, found in (("weights", str(tmp_path / "weights")), ("some-name", "some-name")):
        words, environment = ["course", "script.py"], {"MINBERT_MODEL": named}
        done = Command("compat", words, tmp_path, environment=environment).finish()
        assert done.out == f"{found}\n", done.err


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_is_printed(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert compat.main([flag]) == 0
    assert "\npython -m compat FOLDER sanity_check.py\n" in capsys.readouterr().out


def test_sanity_check(folder: Path) -> None:
    reference = transformers.BertModel.from_pretrained(resolve("all-MiniLM-L6-v2")).eval()
    with torch.no_grad():
        out = reference(**sanity_inputs())
    saved = {name: out[name] for name in ("last_hidden_state", "pooler_output")}
    torch.save(saved, folder / "sanity_check.data")
    result = run_script(folder, SANITY_CHECK)
    assert result.code == 0, result.err
    saved["pooler_output"][1, 7] += 1e-3
    torch.save(saved, folder / "sanity_check.data")
    assert run_script(folder, SANITY_CHECK).code == 1


def test_optimizer_test(folder: Path) -> None:
    """The reference: the courses' operations, tensor by tensor, in their order."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    w = torch.nn.Linear(3, 2, bias=False).weight.detach()
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    for t in range(1, 1001):
        x = torch.FloatTensor(rng.uniform(size=[3]))
        error = torch.stack([x[0] + x[1], -x[2]]) - w @ x
        g = torch.outer(-2 * error, x)
        m.mul_(0.9).add_(g, alpha=0.1)
        v.mul_(0.999).addcmul_(g, g, value=0.001)
        a = 1e-3 * (1 - 0.999**t) ** 0.5 / (1 - 0.9**t)
        w.addcdiv_(m, v.sqrt().add_(1e-6), value=-a)
        w.add_(w, alpha=-1e-3 * 1e-4)
    np.save(folder / "optimizer_test.npy", w.numpy())
    (folder / "script.py").write_text(OPTIMIZER_TEST)
    command = [sys.executable, "-m", "compat", str(folder), "script.py"]  # as a student types it
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "option", ["finetune", pytest.param("pretrain", marks=pytest.mark.thorough)]
)
def test_a_classifier_trains(folder: Path, option: str) -> None:
    result = run_script(folder, CLASSIFIER, "--option", option)
    assert result.code == 0, result.err
    first, last, score = map(float, result.out.split())
    assert last < first and (option == "pretrain" or (last < 0.1 and score == 1))


@pytest.mark.parametrize(
    ("words", "moved"),
    [
        (("--option", "finetune"), 1),
        pytest.param(("--fine-tune-mode", "full-model"), 1, marks=pytest.mark.thorough),
        (("--fine-tune-mode", "last-linear-layer"), 0),
    ],
)
def test_a_multitask_classifier_trains(folder: Path, words: tuple[str, ...], moved: int) -> None:
    (folder / "datasets.py").write_text(ROWS)  # not the library of that name
    result = run_script(folder, MULTITASK, *words)
    assert result.code == 0, result.err
    first, last, trained = map(float, result.out.split())
    assert last < first and trained == moved


@pytest.mark.parametrize("is_run", [False, True])
def test_the_project_s_own_multitask_model(folder: Path, world: Path, is_run: bool) -> None:
    """Of published weights, and of a run."""
    run = world / "model"  # where a tokenizer lies
    save_multitask(MultitaskNetwork(BertModel(TINY), HEADS), run)
    result = run_script(folder, READY, model=str(run) if is_run else "all-MiniLM-L6-v2")
    assert result.code == 0, result.err


def test_the_folder_s_own_files_come_first_where_they_are_the_student_s(folder: Path) -> None:
    (folder / "utils.py").write_text("mine = 3")
    (folder / "multitask_classifier.py").write_text("class MultitaskBERT: mine = 4")
    source = "from utils import mine\nfrom multitask_classifier import MultitaskBERT\n"
    result = run_script(folder, source + "print(mine, MultitaskBERT.mine)")
    assert result.out == "3 4\n", result.err


def test_a_student_s_file_with_the_name_of_one_here_is_the_student_s(folder: Path) -> None:
    """Also after minbert's BERT is imported."""
    (folder / "tasks.py").write_text("mine = 5")
    (folder / "script.py").write_text("import bert\nimport tasks\nprint(tasks.mine)\n")
    command = [sys.executable, "-m", "compat", str(folder), "script.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "5\n", done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [([], "write python -m compat FOLDER SCRIPT"), ([".", "no.py"], "no.py: no such script")],
)
def test_mistakes_are_one_line(folder: Path, words: list[str], message: str) -> None:
    done = Command("compat", words, folder).finish()
    assert done.code == 2 and message in done.err and done.err.count("\n") == 1


def test_a_script_s_own_error_is_told_with_its_place(folder: Path) -> None:
    done = run_script(folder, "\n\nopen('nowhere.csv')\n")
    assert done.code == 1 and 'script.py", line 3' in done.err
    assert done.err.endswith(
        "FileNotFoundError: [Errno 2] No such file or directory: 'nowhere.csv'\n"
    )


def test_a_run_whose_heads_read_otherwise_is_refused(folder: Path, tmp_path: Path) -> None:
    """They would be given what they were not trained on."""
    model = MultitaskNetwork(BertModel(TINY), {"sst": HeadConfig(5, pooling="mean")})
    save_multitask(model, tmp_path / "best")
    text = "from multitask_classifier import MultitaskBERT\nMultitaskBERT()\n"
    done = run_script(folder, text, model=str(tmp_path / "best"))
    assert "the head of sst reads other than BERT's pooler" in done.err
    assert done.code == 2 and done.err.count("\n") == 1, done.err


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ({"sst": HeadConfig(3)}, "sst has 3 outputs, the course's 5"),
        ({"sst": HeadConfig(5)}, "MINBERT_MODEL: a run of sst, without quora"),
    ],
)
def test_a_run_of_other_tasks_is_told_of(
    folder: Path, tmp_path: Path, heads: dict[str, HeadConfig], message: str
) -> None:
    save_multitask(MultitaskNetwork(BertModel(TINY), heads), tmp_path / "best")
    text = (
        "import torch\nfrom multitask_classifier import MultitaskBERT\n"
        "model, ids = MultitaskBERT(), torch.tensor([[1, 2]])\nmask = torch.ones_like(ids)\n"
        "assert len(model.predict_sentiment(ids, mask)) == 1\n"
        "model.predict_paraphrase(ids, mask, ids, mask)\n"
    )
    done = run_script(folder, text, model=str(tmp_path / "best"))
    assert message in done.err and done.code == 2 and done.err.count("\n") == 1, done.err


def test_the_heads_of_a_run_answer_as_trained(folder: Path, tmp_path: Path) -> None:
    network = MultitaskNetwork(BertModel(TINY), HEADS).eval()
    save_multitask(network, tmp_path / "best")
    single = Batch(torch.tensor([2, 5, 3]), torch.arange(3), torch.zeros(3).long(), (3,))
    segments = torch.tensor([0, 0, 0, 1, 1])
    pair = Batch(torch.tensor([2, 5, 3, 6, 3]), torch.arange(5), segments, (5,))
    with torch.no_grad():
        expected = [network(name, single if name == "sst" else pair) for name in HEADS]
    torch.save(expected, folder / "expected.pt")
    text = (
        "import torch\nfrom multitask_classifier import MultitaskBERT\n"
        "model, mask = MultitaskBERT().eval(), torch.ones(1, 3).long()\n"
        "a, b = torch.tensor([[2, 5, 3]]), torch.tensor([[2, 6, 3]])\n"
        "found = [model.predict_sentiment(a, mask), model.predict_paraphrase(a, mask, b, mask),\n"
        "         model.predict_similarity(a, mask, b, mask)]\n"
        "for ours, theirs in zip(found, torch.load('expected.pt')):\n"
        "    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)\n"
        "from types import SimpleNamespace\n"
        "other = MultitaskBERT(SimpleNamespace(hidden_dropout_prob=0.1))\n"
        "assert other.heads['sst'].dropout.p == 0.1\n"
        "from bert import BertModel\n"
        "bert = BertModel.from_pretrained('bert-base-uncased')\n"
        "hidden = bert.embed(a)\n"
        "torch.testing.assert_close(bert.encode(hidden), bert.encode(hidden, mask))\n"
    )
    done = run_script(folder, text, model=str(tmp_path / "best"))
    assert done.code == 0, done.err


def test_what_is_added_to_scores_hides_padding_alone() -> None:
    added = get_extended_attention_mask(torch.tensor([[1, 1, 0]]), torch.float32)
    assert added.tolist() == [[[[0.0, 0.0, -10000.0]]]]


def test_an_empty_folder_is_a_slip() -> None:
    with pytest.raises(UserError, match="a word of FOLDER SCRIPT is empty: leave it out"):
        compat.main(["", "classifier.py"])
