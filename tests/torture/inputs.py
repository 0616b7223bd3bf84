"""Every kind of file that the scripts read, in a folder to copy, with a command that reads it."""

import gzip
import json
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from minbert import BertConfig, BertModel
from tests.conftest import arguments
from tests.forked import Command, run
from tests.processes import wait_for_step
from tests.torture import mutations as m

NEW = ["--model", "model", "--output-dir", "runs", "--name", "n", "--epochs", "1"]
TRAIN = ["train", *NEW, "--data-dir", "data", "--skip-predictions", "--max-length", "32"]
PRETRAIN = ["pretrain", *NEW, "--corpus", "corpus.txt", "--held-out", "20", "--mask-rate", "0.5"]
RESUME = ["train", "--resume", "runs/half"]
GO_ON = ["pretrain", "--resume", "runs/pre"]
TEXT = ["evaluate", "--checkpoint", "runs/r", "--text", "red cat runs"]
EVALUATE = ["evaluate", "--checkpoint", "runs/r", "--data-dir", "data", "--output", "out"]
SCORE = ["evaluate", "--score", "pred.csv", "--gold", "data/ids-sst-dev.csv"]
INPUT = ["evaluate", "--checkpoint", "runs/r", "--output", "out", "--task"]
REPORT = ["report", "runs/r", "--output", "out"]
VERIFY = ["evaluate", "--model", "large", "--verify"]
LARGE = BertConfig(
    vocab_size=18000, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
    intermediate_size=8, max_position_embeddings=8,
)  # fmt: skip

WORDS = """
[{0}]
kind = "token-classification"
train = "words.{1}"
dev = "words.{1}"
labels = ["O", "B-HUE", "B-PET", "I-PET"]
"""


@dataclass(frozen=True)
class Input:
    """A kind of input: the file that is changed, how, and who reads it."""

    file: str  # or a pattern
    mutate: m.Mutate
    command: list[str]
    same: str = ""  # a file with a hash, so this file must come out as from the undamaged one
    sealed: bool = False  # the checkpoint's hashes are made anew: what lies behind them is tested
    codes: tuple[int, ...] = (0,)
    piped: bool = False

    def start(self, folder: Path) -> Command:
        """Start the command in a folder."""
        script, *argv = self.command
        return Command(script, argv, folder, folder / self.file if self.piped else None)


def probed(name: str, mutate: m.Mutate) -> Input:
    """Return a file of a model's directory."""
    return Input(name, mutate, ["probe", name.split("/")[0]])


def trained(name: str, mutate: m.Mutate, *more: str) -> Input:
    """Return a file of data."""
    return Input(name, mutate, [*TRAIN, *more])


def owned(name: str, mutate: m.Mutate, task: str, file: str = "own.toml") -> Input:
    """Return a file of a task of one's own."""
    return trained(f"data/{name}", mutate, "--task-file", file, "--tasks", task)


NEW_LAST, HALF_LAST = "runs/n/last/model.safetensors", "runs/half/last/model.safetensors"
INPUTS = [
    *(probed(f"model/{name}", mutate) for name, mutate in (
        ("config.json", m.json_file), ("model.safetensors", m.safetensors), ("vocab.txt", m.text),
    )),
    *(probed(f"saved/{name}", m.json_file) for name in (
        "tokenizer.json", "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json",
    )),
    probed("bin/pytorch_model.bin", m.pickled), probed("bin/config.json", m.json_file),
    probed("shards/model.safetensors.index.json", m.json_file),
    probed("st/modules.json", m.json_file),
    trained("data/ids-sst-train.csv", m.table, "--tasks", "sst"),
    trained("data/quora-train.csv", m.table, "--tasks", "quora"),
    trained("data/sts-train.csv", m.table, "--tasks", "sts"),
    Input("data/ids-sst-test-student.csv", m.table, EVALUATE),
    owned("intent.tsv", m.table, "intent"), owned("alike.csv", m.table, "alike"),
    owned("entails.jsonl", m.json_lines, "entails"), owned("topics.jsonl", m.json_lines, "topics"),
    owned("stars.parquet", m.some_bytes, "stars"),
    owned("words.conll", m.text, "words", "words.toml"),
    owned("words.jsonl", m.json_lines, "more_words", "words.toml"),
    owned("intent.tsv.gz", m.zipped, "intent", "zipped.toml"),
    owned("intent.csv", m.some_bytes, "intent", "wide.toml"),
    trained("own.toml", m.toml_file, "--task-file", "own.toml", "--batch-size", "20"),
    Input("config.toml", m.toml_file, [*TRAIN, "--config", "config.toml"]),
    Input("corpus.txt", m.text, PRETRAIN),
    Input("runs/half/args.json", m.json_file, RESUME), Input("runs/r/args.json", m.json_file, TEXT),
    Input("runs/r/tasks.toml", m.toml_file, TEXT),
    Input("runs/half/tasks.toml", m.toml_file, RESUME),
    Input("runs/share/dev_rows.json", m.json_file, ["evaluate", "--checkpoint", "runs/share",
          "--data-dir", "data", "--output", "out"]),
    Input("runs/half/log.jsonl", m.json_lines, RESUME, same=HALF_LAST),
    Input("runs/half/last/manifest.json", m.json_file, RESUME, same=HALF_LAST),
    Input("runs/half/last/state.json", m.json_file, RESUME, sealed=True),
    Input("runs/half/best/step.json", m.json_file, RESUME, sealed=True),
    Input("runs/half/last/optimizer.safetensors", m.safetensors, RESUME, sealed=True),
    Input("runs/pre/last/state.json", m.json_file, GO_ON, sealed=True),
    Input("runs/pre/last/model.safetensors", m.safetensors, GO_ON, sealed=True),
    Input("runs/pre/best/step.json", m.json_file, GO_ON, sealed=True),
    Input("runs/half/last/heads.json", m.json_file, RESUME, sealed=True),
    Input("runs/r/best/heads.json", m.json_file, EVALUATE, sealed=True),
    Input("runs/r/best/heads.safetensors", m.safetensors, EVALUATE, sealed=True),
    Input("runs/two/best/second.safetensors", m.safetensors, ["evaluate", "--checkpoint",
          "runs/two", "--data-dir", "data", "--output", "out"], sealed=True),
    Input("runs/half/teachers/sst-*.npy", m.some_bytes, RESUME, same=HALF_LAST),
    Input("runs/r/best/model.safetensors", m.some_bytes, EVALUATE, same="out/sst-dev-output.csv"),
    Input("runs/r/findings.json", m.json_file, REPORT),
    Input("runs/r/log.jsonl", m.json_lines, REPORT),
    Input("runs/.ids/ids-sst-train-*", m.some_bytes, [*TRAIN, "--tasks", "sst"], same=NEW_LAST),
    Input("runs/.ids/corpus-*", m.some_bytes, PRETRAIN, same=NEW_LAST),
    *(Input(name, mutate, [*VERIFY, name], codes=(0, 1)) for name, mutate in (
        ("ref.safetensors", m.safetensors), ("ref.npz", m.some_bytes), ("ref.pt", m.pickled),
    )),
    Input("pred.csv", m.table, SCORE, codes=(0, 1)),
    Input("data/ids-sst-dev.csv", m.table, SCORE, codes=(0, 1)),
    Input("lines.txt", m.text, [*INPUT, "sst", "--input", "lines.txt"]),
    Input("lines.txt", m.text, [*INPUT, "sst", "--input", "-"], piped=True),
    Input("data/sts-dev.csv", m.table, [*INPUT, "sts", "--input", "data/sts-dev.csv"]),
    Input("data/sts-dev.csv", m.table, [*INPUT, "sts", "--input", "-"], piped=True),
]  # fmt: skip


def make_stage(world: Path, stage: Path) -> None:
    """Make the folder that every trial gets a copy of."""
    stage.mkdir()
    for name in ("model", "data", "own.toml"):
        (world / name).rename(stage / name)
    zipped = stage / "data/intent.tsv.gz"
    zipped.write_bytes(gzip.compress((stage / "data/intent.tsv").read_bytes()))
    own = (stage / "own.toml").read_text()
    (stage / "zipped.toml").write_text(own.replace("intent.tsv", "intent.tsv.gz"))
    wide = (stage / "data/intent.tsv").read_text().replace("\t", ";")
    (stage / "data/intent.csv").write_text(wide, encoding="utf-16")
    layout = 'intent.csv"\ndelimiter = ";"\ncharset = "utf-16"\nbad_rows = 0.2\n'
    own_16 = own.replace('intent.tsv"\n', layout, 1).replace("intent.tsv", "intent.csv")
    (stage / "wide.toml").write_text(own_16)
    words = [("red", "B-HUE"), ("old", "O"), ("cat", "B-PET"), ("dog", "I-PET")]
    lines = "".join(f"{word}\t{tag}\n" for word, tag in words)
    (stage / "data/words.conll").write_text("\n".join([lines] * 20))
    row = {"tokens": [word for word, _ in words], "tags": [tag for _, tag in words]}
    (stage / "data/words.jsonl").write_text(f"{json.dumps(row)}\n" * 20)
    (stage / "words.toml").write_text(
        "".join(WORDS.format(*pair) for pair in (("words", "conll"), ("more_words", "jsonl")))
    )
    (stage / "config.toml").write_text(
        'tasks = ["sst"]\nepochs = 1\nlr = 1e-3\nlimit = {sst = 20}\nschedule = "linear"\n'
    )
    lines = "".join(f"red cat runs {n}\n" for n in range(60))
    (stage / "lines.txt").write_text(lines)
    (stage / "corpus.txt").write_text(lines * 5)
    make_models(stage)
    make_runs(stage)


def make_models(stage: Path) -> None:
    """Write model directories of all forms, and references of one."""
    for name in ("bin", "shards", "st"):
        shutil.copytree(stage / "model", stage / name)
    tensors = load_file(stage / "model/model.safetensors")
    (stage / "bin/model.safetensors").unlink()
    torch.save(tensors, stage / "bin/pytorch_model.bin")
    names, path = sorted(tensors), stage / "shards/model.safetensors"
    path.unlink()
    listed = {name: f"{i % 2}.safetensors" for i, name in enumerate(names)}
    for shard in ("0.safetensors", "1.safetensors"):
        inside = {name: tensors[name] for name in names if listed[name] == shard}
        save_file(inside, path.with_name(shard))
    path.with_name(f"{path.name}.index.json").write_text(json.dumps({"weight_map": listed}))
    module = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}
    (stage / "st/modules.json").write_text(json.dumps([module]))
    torch.manual_seed(0)
    BertModel(LARGE).save_pretrained(stage / "large")
    for ending in ("safetensors", "npz", "pt"):
        finish("evaluate", ["--model", "large", "--emit", f"ref.{ending}"], stage)


def make_runs(stage: Path) -> None:
    """Train runs to their end and stop one of each script half-way; fill the caches."""
    argv = [*arguments(Path("."), "--epochs", "1", "--eval-every", "4", "--save-minutes", "0")]
    argv += ["--output-dir", "runs"]
    finish("train", [*argv, "--name", "r"], stage)
    own = (stage / "own.toml").read_text()
    (stage / "share.toml").write_text(own.replace('dev = "intent.tsv"', "dev = 0.25"))
    share = ["--task-file", "share.toml", "--tasks", "intent", "--name", "share"]
    finish("train", [*argv, *share], stage)
    towers = ["--tasks", "sts", "--pair-encoding", "siamese", "--towers", "separate"]
    finish("train", [*argv, *towers, "--name", "two"], stage)
    taught = ["--teacher", "sst=runs/r", "--name", "half", "--epochs", "9"]
    stop("train", [*argv, *taught], stage / "runs/half", 85)
    words = ["--keep", "best", "--held-out", "4", "--save-minutes", "0", "--output-dir", "runs"]
    argv = [*arguments(Path("."), "--name", "pre", "--epochs", "3"), *words]
    stop("pretrain", argv, stage / "runs/pre", 25)
    saved = stage / "saved"
    shutil.copytree(stage / "runs/r/best", saved)
    (saved / "manifest.json").unlink()
    (saved / "special_tokens_map.json").write_text('{"unk_token": "[UNK]", "pad_token": "[PAD]"}')
    (saved / "added_tokens.json").write_text('{"[NEW]": 17}')
    settings = json.loads((saved / "tokenizer_config.json").read_text())
    settings["added_tokens_decoder"] = {"17": {"content": "[NEW]", "special": True}}
    (saved / "tokenizer_config.json").write_text(json.dumps(settings))
    shutil.copy(stage / "runs/r/predictions/sst-dev-output.csv", stage / "pred.csv")
    for script, *more in (TRAIN, PRETRAIN):
        finish(script, more, stage)
        shutil.rmtree(stage / "runs/n")


def stop(script: str, argv: list[str], run_: Path, step: int) -> None:
    """Stop a command's run, in its folder, after so many steps; it must be ready to go on."""
    command = Command(script, argv, run_.parents[1])
    wait_for_step(run_, step)
    command.signal(signal.SIGTERM)
    assert command.finish().code == 130


def finish(script: str, argv: list[str], folder: Path) -> None:
    """Run a command that must succeed."""
    outcome = run(script, argv, folder)
    assert outcome.code == 0, outcome.err
