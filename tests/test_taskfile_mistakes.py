"""Task files and their data with something wrong in them, or unusual: one line each."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import evaluate
import pretrain_mlm
import train_multitask
from minbert import UserError
from minbert.data.examples import read_examples
from minbert.losses import multi_label
from minbert.metrics import label_f1
from minbert.task.labels import label_parser, label_set_parser
from minbert.task.taskfile import read_task_file
from tests.own_tasks import OWN, arguments


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            '"utterance"',
            '"utterence"',
            r"\[intent\] .*no column 'utterence'.*it has utterance, what",
        ),
        (
            'labels = ["walk", "rest", "none of it"]',
            'labels = ["caf\u00e9", "b"]\nclass_weight = { "cafe\u0301" = 2 }',
            r"none of the labels; one has an accent as a character of its own",
        ),
        ('"classification"', '"clasification"', r"\[intent\] kind = 'clasification': write one of"),
        ('kind = "classification"', 'Kind = "classification"', "'Kind' .* did you mean kind?"),
        ('dev = "entails.jsonl"', "dev = 0", r"\[entails\] dev = 0: a share of train is between"),
        ('dev = "entails.jsonl"', "dev = 1", r"\[entails\] dev = 1: a share of train is between"),
        ('dev = "entails.jsonl"', 'dev = ""', r"\[entails\] dev = '': write a file, \"a.csv\", or"),
        ("weight = 0.5", "wieght = 0.5", r"\[entails\] 'wieght' .*did you mean weight\?"),
        ('train = "intent.tsv"', 'train = "no.tsv"', r"train = 'no.tsv': no such file in"),
        ('label = "what"', "", r"\[intent\] label is missing"),
        ("weight = 0.5", 'metric = "f2"', r"metric = 'f2': write accuracy or f1"),
        ('metric = "spearman"', 'metric = "mae"', r"of an error less is better; write pearson or"),
        ('metric = "spearman"', 'metric = "f1"', r"metric = 'f1': write pearson or spearman"),
        ('loss = "cosent"', 'loss = "mnr"', r"\[alike\] loss = 'mnr' needs labels 0 and 1"),
        ('loss = "cosent"', 'loss = "cosin"', r"\[alike\] loss = 'cosin': write one of cosine-mse"),
        ('encoding = "siamese"', 'encoding = "all"', r"write one of cross, siamese, both;"),
        ('encoding = "siamese"', 'encoding = "both"', r"loss = 'cosent': its score is not on"),
        ('encoding = "siamese"', "", r"\[alike\] loss = 'cosent' goes with encoding = \"siamese\""),
        ("labels = 3", "labels = 1", r"\[entails\] labels = 1: write two or more"),
        ("labels = 3", "labels = 3\nclass_weight = 2", r'class_weight = 2: write "balanced" or'),
        ("labels = 3", "labels = 3\nclass_weight = {}", r"class_weight = {}: write"),
        ("labels = 3", "labels = 3\nclass_weight = { 3 = 2 }", r"'3' is none of the labels"),
        ("labels = 3", "labels = 3\nclass_weight = { 2 = 0 }", r"2 = 0: write a number, 0.0"),
        ("range = [0, 10]", 'class_weight = "balanced"', r"'class_weight' is not a key of"),
        ("labels = 3", 'labels = "abc"', r"labels = 'abc': write names or numbers in brackets"),
        ("labels = 3", "labels = [0, 1, 1.0]", r"\[entails\] labels: 1 is there twice"),
        ('"rest", "none of it"', '""', r"\[intent\] labels: '' is none: an empty cell is"),
        ('"rest", "none of it"', '"walk"', r"\[intent\] labels: 'walk' is there twice"),
        ('"none of it"', '"none "', r"\[intent\] labels: 'none ': cells have no blanks"),
        ('"dogs", ', '" ", ', r"\[topics\] labels: ' ': cells have no blanks"),
        ('"rest", "none of it"', "2", r"write names or numbers in brackets, or how many"),
        ('["cats", "dogs", "colours"]', "3", r"\[topics\] labels = 3: write names or numbers"),
        ("[intent]", "[intent", r"own.toml: cannot be read"),
        ('["premise", "hypothesis"]', '"premise"', r"pair-classification has 2 text columns"),
        ('"colours"]', '"c", ' + ", ".join(f'"x{i}"' for i in range(22)) + "]", r"25 of them"),
        ("range = [0, 10]", "range = 10", r"\[alike\] range = 10: write the lowest and the high"),
        ("range = [0, 10]", 'range = [0, "a"]', r"\[alike\] range = \[0, 'a'\]: write the lowest"),
        ("range = [0, 10]", "range = [10, 0]", r"\[alike\] range = .*write the lowest score first"),
        ("range = [0, 10]", "range = [1e9, 1000000010]", r"range = .*too narrow for fp32"),
        ("range = [0, 10]", "range = [-1e300, 1e300]", r"range = .*too large or"),
        ("weight = 0.5", 'weight = "2"', r"\[entails\] weight = '2': write a number"),
        ("weight = 0.5", "weight = -1", r"\[entails\] weight = -1: write a number from 0"),
        ('label = "what"', "label = 3", r"\[intent\] label = 3: write a word in quotes"),
        ('label = "what"', 'label = "utterance"', r"label = 'utterance': the column of a text or"),
        ('label = "answer"', 'label = "hypothesis"', r"\[entails\] label = 'hypothesis': the col"),
        ('label = "answer"', 'label = "key"', r"\[entails\] label = 'key': .* id; name another"),
        ('text = "utterance"', "text = 3", r"\[intent\] text = 3: write a column"),
        ('kind = "regression"', "kind = []", r"\[stars\] kind = \[\]: write one of"),
        ("[intent]", "[values]", r"\[values\]: PyTorch has that name .* values_task"),
        (
            "weight = 0.5",
            'title = "a\\u001b[31m"',
            r"\[entails\] title = .*without control charact",
        ),
        ('"rest", "none of it"', '"a\\u0007"', r"\[intent\] labels = .*without control charact"),
        ("weight = 0.5", 'quoting = "some"', r"quoting = 'some': write one of auto, csv, none"),
        ("weight = 0.5", 'columns = "a"', r"columns = 'a': write the names of a file without"),
        ("weight = 0.5", "course = 1", r"course = 1: write true or false"),
        ("weight = 0.5", 'prediction_file = "a.csv"', r"prediction_file = 'a.csv': {split} is"),
        ("weight = 0.5", 'prediction_file = "../{split}"', "write the name of a file, no folder"),
        ("weight = 0.5", 'prediction_file = "{split}{x}"', "write the name of a file, no folder"),
        ("weight = 0.5", 'prediction_header = "=1+1"', "a formula to spreadsheets; use words"),
        ("labels = 3", "labels = 10000000000", r"labels: more than 100,000 of them"),
        (
            "labels = 3",
            'labels = 3\nencoding = "siamese"\nloss = "contrastive"',
            "entails has 3 classes: siamese pairs have two, or scores",
        ),
        (
            "weight = 0.5",
            'prediction_file = "' + "x" * 100 + '{split}"',
            "write the name of a file, no folder",
        ),
        ("labels = 3", 'labels = 3\ndisplay_names = ["a"]', r"write a name for each of"),
        ("labels = 3", 'labels = 3\ndisplay_names = ["a", "b", "a"]', r"'a' is there twice"),
        ("[intent]", "[2023_reviews]", "letters, digits and _, the first no digit"),
        ("[intent]", "[type]", r"\[type\]: PyTorch has that name"),
        ("[intent]", "[Best]", r"\[Best\]: a run keeps a model in a folder of that name; write"),
        ("[intent]", "[last]", r"\[last\]: a run keeps a model in a folder of that name"),
        ("[intent]", "[teachers]", r"\[teachers\]: a run keeps what teachers say in a folder"),
        ("[intent]", "[mean]", r"\[mean\]: --best-by mean is the mean of all tasks; write mean_"),
    ],
)
def test_mistakes(own: Path, old: str, new: str, message: str) -> None:
    assert old in OWN
    (own / "own.toml").write_text(OWN.replace(old, new, 1))
    with pytest.raises(UserError, match=message) as error:
        train_multitask.main(arguments(own))
    assert "\n" not in str(error.value)
    assert not (own / "runs").exists()


def test_a_start_that_failed_leaves_its_name_free(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    more = ["--tasks", "intent", "--name", "one", "--epochs", "1"]
    for script in (train_multitask, pretrain_mlm):
        with pytest.raises(UserError, match="not found"):
            script.main([*arguments(own), *more, "--model", "/nowhere"])
    assert train_multitask.main([*arguments(own), *more]) == 0
    assert (own / "runs/one/tasks.toml").read_text() == OWN


def test_numbers_as_labels(own: Path) -> None:
    text = OWN.replace('["walk", "rest", "none of it"]', "[1, 2.5, 4]")
    (own / "own.toml").write_text(text.replace('["cats", "dogs", "colours"]', "[7, 8, 9]"))
    tasks = read_task_file(own / "own.toml", None)
    (own / "data" / "intent.tsv").write_text("utterance\twhat\na\t1\nb\t1.0\nc\t2.5\nd\t4.00\n")
    examples, _ = read_examples(own / "data" / "intent.tsv", tasks["intent"].columns, True)
    assert [e.label for e in examples] == [0, 0, 1, 2]
    assert [tasks["intent"].format_prediction(p) for p in (0, 1, 2)] == ["1", "2.5", "4"]
    assert (
        tasks["topics"].columns.parse_label("9.0;7") == 5
        and tasks["topics"].format_prediction(5) == "7;9"
    )
    with pytest.raises(ValueError, match=r"expected one of 1, 2\.5, 4"):
        tasks["intent"].columns.parse_label("3")


def test_an_accent_may_be_a_character_of_its_own() -> None:
    """As in what macOS writes; a label is predicted as the task file has it."""
    one, two = "caf\u00e9", "cafe\u0301"
    for labels in ([one, "bar"], [two, "bar"]):
        assert [label_parser(labels)(text) for text in (one, two, "bar")] == [0, 0, 1]
        assert [label_set_parser(labels)(text) for text in (f"bar;{one}", f"{two}; bar")] == [3, 3]
    assert [label_parser([one, two])(text) for text in (one, two)] == [0, 1]
    with pytest.raises(ValueError, match="expected one of"):
        label_parser([one, "bar"])("cafe")


def test_a_row_with_a_label_that_is_none_of_the_names(own: Path) -> None:
    (own / "data" / "intent.tsv").write_text("utterance\twhat\na\twalk\nb\tfly\n")
    columns = read_task_file(own / "own.toml", own / "data")["intent"].columns
    with pytest.raises(UserError, match=r"intent.tsv:3: what is 'fly': expected one of walk"):
        read_examples(own / "data" / "intent.tsv", columns, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"text": "a"\n', r"topics.jsonl:1: not a line of JSON"),
        ("[1]\n", r"topics.jsonl:1: expected an object"),
        ('{"text": "a"}\n', r"topics.jsonl:1: no column 'topics'; the columns are text"),
        ('{"text": "a", "topics": ["birds"]}\n', r"topics.jsonl:1: .*'birds' is not one of cats"),
    ],
)
def test_broken_json_rows(own: Path, text: str, message: str) -> None:
    columns = read_task_file(own / "own.toml", own / "data")["topics"].columns
    (own / "data" / "topics.jsonl").write_text(text)
    with pytest.raises(UserError, match=message):
        read_examples(own / "data" / "topics.jsonl", columns, True)


def test_a_file_that_is_not_parquet(own: Path) -> None:
    (own / "data" / "stars.parquet").write_text("review,stars\n")
    with pytest.raises(UserError, match=r"\[stars\] .*stars.parquet: not a Parquet file"):
        read_task_file(own / "own.toml", own / "data")


def test_files_that_are_empty_or_have_other_delimiters(own: Path) -> None:
    for name, text, message in (
        ("intent.tsv", "", r"intent.tsv: the file is empty"),
        ("topics.jsonl", "\n", r"topics.jsonl: the file is empty"),
        ("intent.tsv", "utterance;what\na, b;walk\n", r"intent.tsv:1: `;` between the columns"),
    ):
        whole = (own / "data" / name).read_text()
        (own / "data" / name).write_text(text)
        with pytest.raises(UserError, match=message):
            read_task_file(own / "own.toml", own / "data")
        (own / "data" / name).write_text(whole)


def test_a_score_outside_of_the_range_names_it(own: Path) -> None:
    columns = read_task_file(own / "own.toml", own / "data")["stars"].columns
    (own / "data" / "stars.csv").write_text("review,stars\nfine,9\n")
    with pytest.raises(UserError, match=r"from 0 to 5, the task's `range`"):
        read_examples(own / "data" / "stars.csv", columns, True)


def test_own_ids_stay_as_they_are_and_are_joined_back(own: Path) -> None:
    gold = own / "data" / "entails.jsonl"
    rows = [json.loads(line) for line in gold.read_text().splitlines()]
    ids = [f"{'kK'[i % 2]}{i // 2}" for i in range(len(rows))]  # lower-cased they would collide
    rows = [json.dumps({**row, "key": id_}) for row, id_ in zip(rows, ids, strict=True)]
    gold.write_text("\n".join(rows) + "\n")
    train_multitask.main(arguments(own, "--tasks", "entails"))
    run = own / "runs" / "own"
    predictions = run / "predictions" / "entails-dev-output.csv"
    assert [line.split(",")[0] for line in predictions.read_text().splitlines()[1:]] == ids
    places = ["--gold", str(gold), "--task-file", str(run / "tasks.toml")]
    assert evaluate.main(["--score", str(predictions), *places]) == 0


def test_an_own_file_that_is_missing_is_not_the_course_s(own: Path) -> None:
    columns = read_task_file(own / "own.toml", None)["intent"].columns
    with pytest.raises(UserError, match=r"none.tsv: no such file; point --data-dir") as error:
        read_examples(own / "none.tsv", columns, True)
    assert "course" not in str(error.value)


def test_sets_of_labels() -> None:
    labels = torch.tensor([0.0, 5.0])  # none; the first and the third
    outputs = torch.tensor([[-9.0, -9.0, -9.0], [9.0, -9.0, 9.0]])
    assert float(multi_label(outputs, labels)) < 1e-3 < float(multi_label(-outputs, labels))
    # right: 1 of {0, 2}; wrong: 1 in the first, 2 missing in the second
    assert label_f1(np.array([2.0, 1.0]), np.array([0.0, 5.0])) == pytest.approx(2 / (2 + 2))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "own.toml: no task in it; write one as"),
        ('kind = "regression"\n', r"own.toml: kind stands outside of a \[table\]"),
        ('["two words"]\n', r"own.toml: \[two words\]: write a name of at most"),
        ("a = [\n", r"own.toml: cannot be read \("),
    ],
)
def test_what_is_no_task_is_named(tmp_path: Path, text: str, message: str) -> None:
    """Also behind a long path."""
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    (folder / "own.toml").write_text(text)
    with pytest.raises(UserError, match=message):
        read_task_file(folder / "own.toml", tmp_path)


def test_two_tasks_do_not_write_one_file(own: Path) -> None:
    text = OWN
    for name in ("entails", "alike"):
        text = text.replace(f"[{name}]", f'[{name}]\nprediction_file = "{{split}}.csv"')
    (own / "own.toml").write_text(text)
    message = r"prediction_file of \[alike\] is that of \[entails\], too"
    with pytest.raises(UserError, match=message):
        read_task_file(own / "own.toml", own / "data")


@pytest.mark.parametrize("cell", ["1;0", "1.0;0.0", "1; 0"])
def test_one_number_a_class_is_no_set_of_numbers(cell: str) -> None:
    with pytest.raises(ValueError, match="one 0 or 1 a class"):
        label_set_parser([0, 1])(cell)
