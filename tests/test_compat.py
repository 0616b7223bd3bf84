"""Scripts in the form of the courses' own run unchanged elsewhere with PYTHONPATH=compat."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
import transformers

from minbert.weights.resolve import resolve
from minbert.weights.verify import sanity_inputs

ROOT = Path(__file__).resolve().parents[1]

SANITY_CHECK = """
import torch
from bert import BertModel
data = torch.load("./sanity_check.data")
ids = torch.tensor([[101, 7592, 2088, 102, 0, 0, 0, 0],
                    [101, 7592, 15756, 2897, 2005, 17953, 2361, 102]])
mask = torch.tensor([[1, 1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1]])
outputs = BertModel.from_pretrained("bert-base-uncased")(ids, mask)
mask = mask.unsqueeze(-1)
outputs["last_hidden_state"] = outputs["last_hidden_state"] * mask
data["last_hidden_state"] = data["last_hidden_state"] * mask
for k in ["last_hidden_state", "pooler_output"]:
    assert torch.allclose(outputs[k], data[k], atol=1e-5, rtol=1e-3)
"""

OPTIMIZER_TEST = """
import numpy as np
import torch
from optimizer import AdamW
rng = np.random.default_rng(0)
torch.manual_seed(0)
model = torch.nn.Linear(3, 2, bias=False)
opt = AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4, correct_bias=True)
for i in range(1000):
    opt.zero_grad()
    x = torch.FloatTensor(rng.uniform(size=[model.in_features]))
    loss = ((torch.Tensor([x[0] + x[1], -x[2]]) - model(x)) ** 2).sum()
    loss.backward()
    opt.step()
ref = torch.tensor(np.load("optimizer_test.npy"))
assert torch.allclose(ref, model.weight.data, atol=1e-8, rtol=1e-5)
"""

CLASSIFIER = """
from types import SimpleNamespace
import torch
from tokenizer import BertTokenizer
from multitask_classifier import MultitaskBERT
tokenizer = BertTokenizer.from_pretrained("bert-base-uncased", local_files_only=True)
a = tokenizer(["a red kite", "rain"], return_tensors="pt", padding=True, truncation=True)
b = tokenizer(["one kite", "it rains a lot"], return_tensors="pt", padding=True, truncation=True)
model = MultitaskBERT(SimpleNamespace(hidden_dropout_prob=0.3)).eval()
assert model.predict_sentiment(a["input_ids"], a["attention_mask"]).shape == (2, 5)
pair = (a["input_ids"], a["attention_mask"], b["input_ids"], b["attention_mask"])
together = tokenizer(["a red kite", "rain"], ["one kite", "it rains a lot"])
pooled = model.bert(together["input_ids"], together["attention_mask"], together["token_type_ids"])
for name, head in (("paraphrase", "quora"), ("similarity", "sts")):
    got = getattr(model, "predict_" + name)(*pair)
    assert torch.allclose(got, model.model.heads[head](pooled["pooler_output"]), atol=1e-6)
"""


def run_script(folder: Path, source: str) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text(source)
    places = {"PYTHONPATH": str(ROOT / "compat"), "MINBERT_MODEL": "all-MiniLM-L6-v2"}
    return subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        env={**os.environ, **places},
        capture_output=True,
        text=True,
    )


def test_sanity_check(tmp_path: Path) -> None:
    reference = transformers.BertModel.from_pretrained(resolve("all-MiniLM-L6-v2")).eval()
    with torch.no_grad():
        out = reference(**sanity_inputs())
    saved = {name: out[name] for name in ("last_hidden_state", "pooler_output")}
    torch.save(saved, tmp_path / "sanity_check.data")
    result = run_script(tmp_path, SANITY_CHECK)
    assert result.returncode == 0, result.stderr
    saved["pooler_output"][1, 7] += 1e-3
    torch.save(saved, tmp_path / "sanity_check.data")
    assert run_script(tmp_path, SANITY_CHECK).returncode == 1


def test_optimizer_test(tmp_path: Path) -> None:
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
    np.save(tmp_path / "optimizer_test.npy", w.numpy())
    result = run_script(tmp_path, OPTIMIZER_TEST)
    assert result.returncode == 0, result.stderr


def test_classifier_and_tokenizer(tmp_path: Path) -> None:
    result = run_script(tmp_path, CLASSIFIER)
    assert result.returncode == 0, result.stderr
