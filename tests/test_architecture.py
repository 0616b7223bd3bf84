"""The house: who may import whom, how large a room may be, what the encoder is made of."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# From the ground up: a file may import from lower floors, and from its own folder; the folders of
# one floor know nothing of each other.
FLOORS = (
    ("errors", "interrupt", "kernels", "memory", "printable", "version"),
    ("locks", "manifest", "progress", "typed"),
    ("files",),
    ("batch", "config", "log_lines", "losses", "metrics", "modules", "parsers", "run_files",
     "tensors"),
    ("weights",),
    ("cli", "data", "training"),
    ("model",),
    ("task",),
    ("exported", "inference", "onnx", "report"),
    ("doctor", "export", "run", "stream"),
    ("tasks",),
    ("train_multitask", "pretrain_mlm", "evaluate", "compat"),
    ("experiments",),
    ("benchmarks",),
)  # fmt: skip
LARGEST_FILE, LARGEST_FUNCTION = 300, 50
READY_MADE = (
    "native_", "_fused_", "scaled_dot_product", "nn.LayerNorm", "F.layer_norm",
    "torch.layer_norm", "functional.layer_norm", "MultiheadAttention", "TransformerEncoder",
    "optim.AdamW(",
)  # fmt: skip
IMPORTED = ("layer_norm", "LayerNorm", "scaled_dot_product", "Multihead", "Transformer", ".AdamW")
CHANGES = {
    "add", "append", "clear", "discard", "extend", "insert", "pop", "popitem", "remove",
    "setdefault", "update",
}  # fmt: skip


def sources() -> list[str]:
    """Return the project's files but for its tests, by path from the root."""
    folders = ("minbert", "tasks", "compat", "experiments", "benchmarks")
    inside = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    scripts = [ROOT / f"{name}.py" for name in ("train_multitask", "pretrain_mlm", "evaluate")]
    return sorted(path.relative_to(ROOT).as_posix() for path in [*inside, *scripts])


def room_of(module: str) -> str:
    """minbert.data.corpus -> data, tasks.sst -> tasks, evaluate -> evaluate."""
    parts = module.split(".")
    return parts[1] if parts[0] == "minbert" and len(parts) > 1 else parts[0]


def floor_of(room: str) -> int | None:
    """Return the floor of a folder or file; None for a name that `minbert` itself exports."""
    return next((number for number, rooms in enumerate(FLOORS) if room in rooms), None)


def imports(file: str) -> list[str]:
    """Return the project's own modules that a file imports, wherever in it."""
    found = []
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            whole = node.module in ("minbert", "tasks")  # from minbert import losses
            found += [f"{node.module}.{alias.name}" for alias in node.names] if whole else []
            found += [] if whole else [node.module or ""]
    ours = ("minbert", "tasks", "train_multitask", "pretrain_mlm", "evaluate", "experiments")
    return [name for name in found if name.split(".")[0] in (*ours, "benchmarks", "compat")]


@pytest.mark.parametrize("file", [f for f in sources() if f != "minbert/__init__.py"])
def test_imports_go_one_way(file: str) -> None:
    room = room_of(file.removesuffix(".py").replace("/", "."))
    floor, scripts = floor_of(room), floor_of("evaluate")
    for name in imports(file):
        other = room_of(name)
        if floor_of(other) is None:
            assert floor >= scripts, f"{file} imports {name} through the public door"
        else:
            assert other == room or floor_of(other) < floor, f"{file} imports {name}"


def test_what_a_task_is_knows_no_files_of_weights_and_tasks_are_data() -> None:
    for file in sources():
        used = {room_of(name) for name in imports(file)}
        if file.startswith("minbert/task/"):
            assert "weights" not in used, file
        if file.startswith("tasks/"):
            assert used <= {"task", "tasks", "cli", "errors", "manifest", "parsers"}, file


def test_the_library_s_front_imports_no_task() -> None:
    assert "tasks" not in {name.split(".")[0] for name in imports("minbert/__init__.py")}


def test_every_room_has_a_floor() -> None:
    found = {room_of(file.removesuffix(".py").replace("/", ".")) for file in sources()}
    assert found - {"__init__"} == {room for rooms in FLOORS for room in rooms}


def test_files_and_functions_are_not_too_large() -> None:
    tests = [path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*.py")]
    for file in [*sources(), *tests]:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert text.count("\n") <= LARGEST_FILE, file
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                assert lines <= LARGEST_FUNCTION, f"{file}: {node.name} has {lines} lines"


def test_no_module_level_name_is_changed() -> None:
    """No global statement, no entry of a constant set or deleted: what is chosen is passed on."""
    for file in sources():
        for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
            assert not isinstance(node, ast.Global), f"{file}:{node.lineno}"
            changed = None
            if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
                changed = node.value
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                changed = node.func.value if node.func.attr in CHANGES else None
            is_constant = isinstance(changed, ast.Name) and changed.id.isupper()
            assert not is_constant, f"{file}:{node.lineno}"


def test_no_reference_library_in_the_product() -> None:
    for file in (f for f in sources() if not f.startswith("benchmarks/")):
        for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            roots = {name.split(".")[0] for name in names}
            assert not roots & {"transformers", "sentence_transformers"}, file


def test_nothing_ready_made_inside_the_encoder() -> None:
    """PyTorch's layer norm and AdamW stand in minbert/kernels.py alone, which runs on request."""
    for file in (f for f in sources() if f.startswith(("minbert/", "compat/"))):
        text = (ROOT / file).read_text(encoding="utf-8")
        found = [word for word in READY_MADE if word in text]
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch"):
                named = [f"{node.module}.{alias.name}" for alias in node.names]
                found += [name for name in named if any(word in name for word in IMPORTED)]
        assert not found or file == "minbert/kernels.py", f"{file}: {found}"
