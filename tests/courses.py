"""Files and scripts in the form of the courses' own, which tests/test_compat.py runs."""

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

# What the course's folder has: its own BERT, which must not be taken, and files of the student's.
STARTER = {
    "bert.py": "raise NotImplementedError('the starter has an empty bert.py')",
    "optimizer.py": "raise NotImplementedError('the starter has an empty optimizer.py')",
    "tokenizer.py": "import requests_of_the_starter",
    "evaluation.py": "def accuracy(x, y):\n    return float((x == y).float().mean())",
}
# CMU: a classifier of one task; the config is a namespace, saved with the model.
CLASSIFIER = """
import argparse
from types import SimpleNamespace
import torch
from torch import nn
from base_bert import BertPreTrainedModel
from bert import BertModel
from config import BertConfig, PretrainedConfig
from evaluation import accuracy
from optimizer import AdamW
from tokenizer import BertTokenizer
from utils import get_extended_attention_mask

class Classifier(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.bert = BertModel.from_pretrained("bert-base-uncased")
        assert isinstance(self.bert, BertPreTrainedModel)
        for p in self.bert.parameters():
            p.requires_grad = config.option == "finetune"
        self.linear = nn.Linear(self.bert.config.hidden_size, config.num_labels)
    def forward(self, ids, mask):
        return self.linear(self.bert(ids, mask)["pooler_output"])

parser = argparse.ArgumentParser()
parser.add_argument("--option", default="pretrain")
args = parser.parse_args()
tokenizer = BertTokenizer.from_pretrained("bert-base-uncased", local_files_only=True)
assert tokenizer.tokenize("unaffable") == ["una", "##ffa", "##ble"]
texts, labels = ["a superb soup", "a dull soup", "superb", "dull"] * 4, torch.tensor([1, 0] * 8)
encoding = tokenizer(texts, return_tensors="pt", padding=True, truncation=True)
ids, mask = torch.LongTensor(encoding["input_ids"]), torch.LongTensor(encoding["attention_mask"])
torch.manual_seed(0)
config = SimpleNamespace(option=args.option, num_labels=2)
model = Classifier(config).train()
assert model.bert.config.name_or_path
optimizer = AdamW(model.parameters(), lr=1e-3)
losses = []
for _ in range(8):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(ids, mask), labels)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
model.eval()
score = accuracy(model(ids, mask).argmax(-1), labels)
state = {"model": model.state_dict(), "model_config": config, "optim": optimizer.state_dict()}
state["model"]["bert.position_ids"] = torch.arange(512)[None]  # a checkpoint of the course's own
torch.save(state, "classifier.pt")
saved = torch.load("classifier.pt")
again = Classifier(saved["model_config"])
again.load_state_dict(saved["model"])
assert torch.equal(again.eval()(ids, mask), model(ids, mask))
hidden = model.bert.embed(input_ids=ids)
out = model.bert.encode(hidden, attention_mask=mask)
real = mask.bool()
assert torch.allclose(out[real], model.bert(ids, mask)["last_hidden_state"][real], atol=1e-5)
assert get_extended_attention_mask(mask, torch.float32).shape == (16, 1, 1, ids.shape[1])
print(losses[0], losses[-1], score)
"""
# Stanford, 2023 (--option) and 2024 (--fine-tune-mode): the model of the projects' folder.
MULTITASK = """
import argparse
import torch
from torch import nn
from bert import BertLayer, BertModel, BertSelfAttention
from datasets import load_rows
from optimizer import AdamW
from tokenizer import BertTokenizer

class MultitaskBERT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.bert = BertModel.from_pretrained("bert-base-uncased", local_files_only=True)
        trained = getattr(config, "option", "") == "finetune"
        trained = trained or getattr(config, "fine_tune_mode", "") == "full-model"
        for p in self.bert.parameters():
            p.requires_grad = trained
        self.sentiment = nn.Linear(self.bert.config.hidden_size, 5)
        self.similarity = nn.Linear(2 * self.bert.config.hidden_size, 1)
    def forward(self, ids, mask):
        return self.bert(ids, mask)["pooler_output"]
    def predict_sentiment(self, ids, mask):
        return self.sentiment(self(ids, mask))
    def predict_similarity(self, ids1, mask1, ids2, mask2):
        return self.similarity(torch.cat([self(ids1, mask1), self(ids2, mask2)], -1))

parser = argparse.ArgumentParser()
parser.add_argument("--option")
parser.add_argument("--fine-tune-mode")
args = parser.parse_args()
tokenizer = BertTokenizer.from_pretrained("bert-base-uncased")
texts, pairs, labels = load_rows()
def encode(texts):
    out = tokenizer(texts, return_tensors="pt", padding=True, truncation=True)
    return out["input_ids"], out["attention_mask"]
torch.manual_seed(0)
model = MultitaskBERT(args)
before = model.bert.pooler_dense.weight.clone()
optimizer = AdamW(model.parameters(), lr=1e-3)
losses = []
for _ in range(6):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model.predict_sentiment(*encode(texts)), labels)
    scores = model.predict_similarity(*encode(texts), *encode(pairs))
    loss = loss + nn.functional.mse_loss(scores[:, 0], labels.float())
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
moved = not torch.equal(before, model.bert.pooler_dense.weight)
config = model.bert.config
layer, attention = BertLayer(config).eval(), BertSelfAttention(config)
x, mask = torch.randn(2, 7, config.hidden_size), torch.zeros(2, 1, 1, 7)
assert layer(x, mask).shape == attention(x, mask).shape == x.shape
print(losses[0], losses[-1], int(moved))
"""
ROWS = """
import torch
def load_rows():
    return ["superb", "dull", "a fine day"], ["good", "boring", "it rains"], torch.tensor([4, 0, 2])
"""
# A script of one's own beside them, which takes the model from here.
READY = """
import os
from types import SimpleNamespace
import torch
from bert import BertModel
from tokenizer import BertTokenizer
from multitask_classifier import MultitaskBERT
tokenizer = BertTokenizer.from_pretrained("bert-base-uncased", local_files_only=True)
a = tokenizer(["a red kite", "rain"], return_tensors="pt", padding=True, truncation=True)
b = tokenizer(["one kite", "it rains a lot"], return_tensors="pt", padding=True, truncation=True)
model = MultitaskBERT(SimpleNamespace(hidden_dropout_prob=0.5)).eval()
assert all(head.dropout.p == 0.5 for head in model.heads.values())
assert all(p.requires_grad for p in model.parameters())
assert not any(name.startswith("model.") for name in model.state_dict())
for frozen in (dict(option="pretrain"), dict(fine_tune_mode="last-linear-layer")):
    other = MultitaskBERT(SimpleNamespace(hidden_dropout_prob=0.3, **frozen))
    assert {n.split(".")[0] for n, p in other.named_parameters() if p.requires_grad} == {"heads"}
assert model.predict_sentiment(a["input_ids"], a["attention_mask"]).shape == (2, 5)
pair = (a["input_ids"], a["attention_mask"], b["input_ids"], b["attention_mask"])
together = tokenizer(["a red kite", "rain"], ["one kite", "it rains a lot"])
pooled = model.bert(together["input_ids"], together["attention_mask"], together["token_type_ids"])
for name, head in (("paraphrase", "quora"), ("similarity", "sts")):
    got = getattr(model, "predict_" + name)(*pair)
    assert torch.allclose(got, model.heads[head](pooled["pooler_output"]), atol=1e-6)
assert isinstance(model.bert, BertModel)
assert model.bert.config.name_or_path == os.environ["MINBERT_MODEL"]
ids, mask = b["input_ids"], b["attention_mask"]
hidden = model.bert.encode(model.bert.embed(input_ids=ids), attention_mask=mask)
real = mask.bool()
expected = model.bert(ids, mask)["last_hidden_state"]
assert torch.allclose(hidden[real], expected[real], atol=1e-5)
again = MultitaskBERT(SimpleNamespace(hidden_dropout_prob=0.5)).eval()
for p in again.parameters():
    torch.nn.init.zeros_(p)
again.load_state_dict({**model.state_dict(), "bert.position_ids": torch.arange(512)[None]})
assert torch.equal(again.predict_sentiment(ids, mask), model.predict_sentiment(ids, mask))
"""
