"""Who may import whom, read from the source."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# the first matching prefix decides; minbert.errors may be imported by everyone
ALLOWED = {
    "minbert/config.py": [],
    "minbert/batch.py": [],
    "minbert/errors.py": [],
    "minbert/losses.py": [],
    "minbert/metrics.py": [],
    "minbert/training": ["minbert.training"],
    "minbert/data": ["minbert.batch", "minbert.data"],
    "minbert/model/encoder.py": [
        "minbert.batch", "minbert.config", "minbert.model", "minbert.weights.pretrained",
    ],
    "minbert/model": ["minbert.batch", "minbert.config", "minbert.model"],
    "minbert/doctor.py": [  # a script
        "minbert.cli", "minbert.training.device", "minbert.weights.resolve", "tasks",
    ],
    "minbert/export.py": [  # a script
        "minbert.data", "minbert.model", "minbert.onnx", "minbert.cli",
        "minbert.weights",
    ],
    "minbert/onnx.py": ["minbert.model"],
    "minbert/report/page.py": ["minbert.report"],
    "minbert/report": ["minbert.report", "minbert.training"],
    "minbert/weights": ["minbert.config", "minbert.model", "minbert.weights"],
    "tasks/sample.py": ["minbert.cli"],  # a script
    "tasks/card.py": ["minbert.training.distributed", "tasks"],
    "tasks/finish.py": [
        "minbert.report.files", "minbert.training.distributed", "minbert.run.loop", "tasks",
    ],
    "tasks/closing.py": [
        "minbert.data", "minbert.metrics", "minbert.report.files", "minbert.training.distributed",
        "minbert.weights", "tasks",
    ],
    "tasks/model.py": [  # where data, model and weights meet, for use from Python
        "minbert.data", "minbert.losses", "minbert.model", "minbert.training.device",
        "minbert.weights", "tasks",
    ],
    "tasks/download.py": ["minbert.cli", "tasks"],  # a script
    "tasks/mlm_options.py": ["minbert.cli", "tasks"],
    "tasks/options.py": [
        "minbert.cli", "minbert.training.distributed", "minbert.data",
        "minbert.model.pooling", "tasks",
    ],
    "tasks/evaluation.py": [
        "minbert.batch", "minbert.data", "minbert.metrics", "minbert.training.distributed", "tasks",
    ],
    "tasks": [
        "minbert.data", "minbert.losses", "minbert.metrics", "minbert.batch",
        "minbert.model.heads", "tasks",
    ],
}  # fmt: skip
FILES = sorted(
    p.relative_to(ROOT).as_posix()
    for folder in ("minbert", "tasks")
    for p in (ROOT / folder).rglob("*.py")
)


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [alias.name for alias in node.names]
            inside = [f"{node.module}.{name}" for name in names]  # from minbert import losses
            modules = [name for name in inside if (ROOT / f"{name.replace('.', '/')}.py").is_file()]
            package = node.module == "minbert"
            found += modules or (inside if package else [node.module or ""])
    return found


@pytest.mark.parametrize("file", [f for f in FILES if f != "minbert/__init__.py"])
def _test_imports_go_one_way(file: str) -> None:
    allowed = next(names for prefix, names in ALLOWED.items() if file.startswith(prefix))
    for name in imports(ROOT / file):
        inside = name.split(".")[0] in (
            "minbert",
            "tasks",
            "experiments",
            "train_multitask",
            "pretrain_mlm",
            "evaluate",
        )
        if inside and name != "minbert.errors":
            assert any(name == a or name.startswith(a + ".") for a in allowed), (
                f"{file} imports {name}"
            )


def test_no_reference_library_in_the_product() -> None:
    for file in FILES:
        roots = {name.split(".")[0] for name in imports(ROOT / file)}
        assert not roots & {"transformers", "sentence_transformers"}, file


def test_nothing_ready_made_inside_the_encoder() -> None:
    for file in FILES:
        source = (ROOT / file).read_text(encoding="utf-8")
        for word in ("nn.LayerNorm(", "MultiheadAttention(", "TransformerEncoder", "layer_norm("):
            assert "F." + word not in source and (word == "layer_norm(" or word not in source), file
