"""Reading a model's tokenizer: vocab.txt or tokenizer.json, and the settings beside it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing

from minbert.errors import DAMAGED, UserError, first_line
from minbert.files import read_json
from minbert.manifest import check_content

MAX_ID = 10**7
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Classes of transformers that tokenize as BERT does; the second kind takes tokenizer.json as it is.
BERT_CLASSES = ("BertTokenizer", "BertTokenizerFast")
PLAIN_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")
ROLES = dict(
    zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True)
)
FIXED = {"truncation_side": "right", "split_special_tokens": False}  # others would change the ids
MORE_SPECIAL = ("additional_special_tokens", "extra_special_tokens")


@dataclass(frozen=True)
class Settings:
    """What tokenizer_config.json says; its keys do_lower_case and so on."""

    lowercase: bool | None = None  # None: there is no such file
    strip_accents: bool | None = None  # None: as lowercase
    chinese_chars: bool = True  # spaces around each
    plain: bool = False  # tokenizer.json is taken as it is, whatever these settings are

    @classmethod
    def from_directory(cls, directory: Path) -> "Settings":
        """Read tokenizer_config.json if it is there. Raises UserError for what is not BERT's."""
        path = directory / "tokenizer_config.json"
        values = read_settings(path)
        name, where = values.get("tokenizer_class"), path
        if not name:  # older models have it there
            where = directory / "config.json"
            name = read_settings(where).get("tokenizer_class") or BERT_CLASSES[0]
        if name not in (*BERT_CLASSES, *PLAIN_CLASSES):
            raise UserError(
                f"{where}: tokenizer_class is {name!r}; only BERT's WordPiece is supported"
            )
        if not path.is_file():
            return cls()
        for key, usual in FIXED.items():
            if (value := values.get(key) or usual) != usual:
                raise UserError(f"{path}: {key} is {value!r}; only {usual!r} is supported")
        found = {}
        defaults = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True}
        for key, default in defaults.items():
            found[key] = values.get(key, default)
            if not isinstance(found[key], bool | None) or (found[key] is None and default):
                raise UserError(f"{path}: {key} is {found[key]!r}; it must be true or false")
        return cls(*found.values(), plain=name in PLAIN_CLASSES)

    def apply_to(self, tokenizer: Tokenizer, path: Path) -> None:
        """Apply these settings to a tokenizer. Raises UserError if it lacks [CLS] or [SEP]."""
        ends = {token: tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]")}
        if None in ends.values():
            raise UserError(f"{path}: no [CLS] or [SEP] in it: not a BERT vocabulary")
        if self.plain:
            return
        if self.lowercase is not None or tokenizer.normalizer is None:
            tokenizer.normalizer = BertNormalizer(
                lowercase=self.lowercase is not False,
                strip_accents=self.strip_accents,
                handle_chinese_chars=self.chinese_chars,
            )
        tokenizer.pre_tokenizer = BertPreTokenizer()
        tokenizer.post_processor = BertProcessing(
            ("[SEP]", ends["[SEP]"]), ("[CLS]", ends["[CLS]"])
        )


def read_settings(path: Path) -> dict[str, Any]:
    """Return a file's object of settings, none if it is not there. Raises UserError."""
    values = read_json(path) if path.is_file() else {}
    if not isinstance(values, dict):
        raise UserError(f"{path}: not an object of settings")
    return values


def read_vocab(path: Path) -> Tokenizer:
    """Read a vocab.txt: a token a line, its id the line's number. Raises UserError."""
    try:
        check_content(path)
        words = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 ({error.reason}); fetch the model again") from error
    vocab = {word: i for i, word in enumerate(words) if word}
    tokenizer = Tokenizer(WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.add_special_tokens([word for word in SPECIAL if word in vocab])
    return tokenizer


def check_ids_of(path: Path) -> None:
    """Raise UserError for ids of a tokenizer.json at which the library would end the program."""
    try:
        ids = read_json(path)["model"]["vocab"].values()
    except (KeyError, TypeError, AttributeError):
        return  # of another form than WordPiece's, which the library says better
    if largest := max((i for i in ids if isinstance(i, int) and i > MAX_ID), default=0):
        raise UserError(f"{path}: a token with the id {largest}; {DAMAGED}")


def is_cased(tokenizer: Tokenizer) -> bool:
    """Return whether a word of the vocabulary has an upper-case letter."""
    words = (w for w in tokenizer.get_vocab() if w not in SPECIAL and w[:1] != "[")
    return any(word != word.lower() for word in words)


def add_tokens(tokenizer: Tokenizer, directory: Path) -> None:
    """Add the tokens that stand in files beside the vocabulary, with the ids they have there.

    Raises UserError for an id that the token would not get here.
    """
    for token, i in sorted(added_tokens(directory), key=lambda pair: pair[1]):
        # one that the vocabulary has keeps its id, and is not split from now on
        if token.content not in SPECIAL or tokenizer.token_to_id(token.content) is None:
            (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
        if (found := tokenizer.token_to_id(token.content)) != i:
            raise UserError(
                f"{directory}: the added token {token.content!r} has the id {i} in its file, the "
                f"vocabulary gives it {found}"
            )


def add_special_tokens(tokenizer: Tokenizer, directory: Path) -> None:
    """Add the special tokens that two files name beside BERT's five; they are never split.

    Raises UserError if a file has another token in the place of one of the five.
    """
    for path in (directory / "tokenizer_config.json", directory / "special_tokens_map.json"):
        values = read_settings(path)
        for role, usual in ROLES.items():
            found = content_of(values.get(role) or usual)
            if found != usual:
                raise UserError(f"{path}: {role} is {found!r}; only {usual} is supported")
        for key in MORE_SPECIAL:
            more = values.get(key) or []
            more = list(more.values()) if isinstance(more, dict) else more
            names = [content_of(token) for token in more] if isinstance(more, list) else [None]
            if not all(isinstance(name, str) and name for name in names):
                raise UserError(f"{path}: {key} is not a list of tokens")
            tokenizer.add_special_tokens(names)


def content_of(token: Any) -> Any:
    """Return a token's text, which a file may have with options around it."""
    return token.get("content") if isinstance(token, dict) else token


def added_tokens(directory: Path) -> list[tuple[AddedToken, int]]:
    """Return the tokens of added_tokens.json and of tokenizer_config.json, with their ids."""
    found = []
    decoder = read_settings(directory / "tokenizer_config.json").get("added_tokens_decoder", {})
    try:
        for content, i in read_settings(directory / "added_tokens.json").items():
            found.append((AddedToken(content), int(i)))
        for i, options in decoder.items():
            options = {key: value for key, value in options.items() if key != "__type"}
            found.append((AddedToken(**options), int(i)))
    except (ArithmeticError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{directory}: its added tokens cannot be read ({error})") from error
    return found


def read_tokenizer(directory: Path) -> Tokenizer:
    """Read tokenizer.json, else vocab.txt, with the settings of tokenizer_config.json.

    Raises UserError if neither file exists, or for a tokenizer or a setting that is not BERT's.
    """
    settings = Settings.from_directory(directory)
    path = directory / "tokenizer.json"
    if path.is_file():
        check_ids_of(path)
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing narrower
            raise UserError(f"{path}: cannot be read ({first_line(error)})") from error
        if not isinstance(tokenizer.model, WordPiece):
            kind = type(tokenizer.model).__name__
            raise UserError(f"{path}: a {kind} tokenizer; BERT's is WordPiece")
        if tokenizer.token_to_id(unknown := tokenizer.model.unk_token) is None:
            raise UserError(f"{path}: its unk_token {unknown!r} is not in its vocabulary")
        settings.apply_to(tokenizer, path)
    elif (path := directory / "vocab.txt").is_file():
        tokenizer = read_vocab(path)
        if settings.lowercase is None:
            settings = replace(settings, lowercase=not is_cased(tokenizer))
        settings.apply_to(tokenizer, path)
    else:
        raise UserError(f"{directory}: neither tokenizer.json nor vocab.txt is there")
    add_tokens(tokenizer, directory)
    add_special_tokens(tokenizer, directory)
    return tokenizer
