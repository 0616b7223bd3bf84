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
MORE_SPECIAL = ("extra_special_tokens", "additional_special_tokens")
# What BERT's classes set themselves, whatever tokenizer.json has for it.
WORDPIECE = {
    "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100
}  # fmt: skip
FIVE = [AddedToken(token, special=True) for token in SPECIAL]
Added = dict[int, AddedToken]  # by id


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

    def apply_to(self, tokenizer: Tokenizer) -> None:
        """Set how a tokenizer normalizes and splits texts."""
        if self.plain:
            return
        if self.lowercase is not None or tokenizer.normalizer is None:
            tokenizer.normalizer = BertNormalizer(
                lowercase=self.lowercase is not False,
                strip_accents=self.strip_accents,
                handle_chinese_chars=self.chinese_chars,
            )
        tokenizer.pre_tokenizer = BertPreTokenizer()

    def add_ends(self, tokenizer: Tokenizer, path: Path) -> None:
        """Have a tokenizer that knows its tokens add [CLS] and [SEP]. Raises UserError."""
        sep, cls = ((token, tokenizer.token_to_id(token)) for token in ("[SEP]", "[CLS]"))
        if None in (*sep, *cls):
            raise UserError(f"{path}: no [CLS] or [SEP] in it: not a BERT vocabulary")
        if not self.plain:
            tokenizer.post_processor = BertProcessing(sep, cls)


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
    return Tokenizer(WordPiece(vocab, **WORDPIECE))


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


def add_tokens(tokenizer: Tokenizer, own: Added, directory: Path, plain: bool) -> None:
    """Add the tokens that transformers adds, in its order: those with an id, then by their roles.

    own: those of tokenizer.json. Raises UserError for an id that the token would not get here, and
    if a file has another token in the place of one of BERT's five.
    """
    special = special_tokens(tokenizer, directory)
    listed = dict(sorted(listed_tokens(directory, own, special).items()))
    # one that the vocabulary has keeps its id, and is not split from now on
    tokenizer.add_tokens([*listed.values()])
    for i, token in listed.items():
        if (found := tokenizer.token_to_id(token.content)) != i:
            raise UserError(
                f"{directory}: the added token {token.content!r} has the id {i} in its file, the "
                f"vocabulary gives it {found}"
            )
    # BERT's classes know their five unnamed
    add_special_tokens(tokenizer, special if plain else [*special, *FIVE])


def add_special_tokens(tokenizer: Tokenizer, tokens: list[AddedToken]) -> None:
    """Add special tokens, but for those that are there, with options of their own perhaps."""
    left_out = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    # one of the five that the vocabulary lacks gets no id: the tokenizer is then refused
    left_out |= {token for token in SPECIAL if tokenizer.token_to_id(token) is None}
    wanted: dict[str, AddedToken] = {}
    for token in tokens:
        if token.content not in left_out:
            wanted.setdefault(token.content, token)  # the library would take the last options
    tokenizer.add_tokens([*wanted.values()])


def special_tokens(tokenizer: Tokenizer, directory: Path) -> list[AddedToken]:
    """Return the special tokens that two files name, which are never split: roles, then more.

    Raises UserError if a file has another token in the place of one of BERT's five.
    """
    padding = (tokenizer.padding or {}).get("pad_token")
    roles: dict[str, Any] = {"bos_token": None, "eos_token": None, "pad_token": padding}
    more: list[AddedToken] | None = None
    for path in (directory / "tokenizer_config.json", directory / "special_tokens_map.json"):
        values = read_settings(path)
        for role, usual in ROLES.items():
            found = content_of(values.get(role) or usual)
            if found != usual:
                raise UserError(f"{path}: {role} is {found!r}; only {usual} is supported")
        roles |= {key: value for key, value in values.items() if key.endswith("_token")}
        extra, additional = (tokens_of(values, key, path) for key in MORE_SPECIAL)
        if isinstance(own_roles := values.get(MORE_SPECIAL[0]), dict):
            roles, extra, more = roles | own_roles, None, None
        # extra tokens of both files add up; additional ones count if there are no others yet
        if extra:
            more = (more or []) + extra
        elif more is None:
            more = extra if additional is None else additional
        if "added_tokens_decoder" in values:
            break  # transformers leaves the second file alone then
    named = [token for token in roles.values() if isinstance(content_of(token), str)]
    return [*(as_special(token, directory) for token in named), *(more or [])]


def tokens_of(values: dict[str, Any], key: str, path: Path) -> list[AddedToken] | None:
    """Return a setting's list of special tokens, None if it is not there. Raises UserError."""
    if (tokens := values.get(key)) is None:
        return None
    tokens = list(tokens.values()) if isinstance(tokens, dict) else tokens
    names = [content_of(token) for token in tokens] if isinstance(tokens, list) else [None]
    if not all(isinstance(name, str) and name for name in names):
        raise UserError(f"{path}: {key} is not a list of tokens")
    return [as_special(token, path) for token in tokens]


def content_of(token: Any) -> Any:
    """Return a token's text, which a file may have with options around it."""
    return token.get("content") if isinstance(token, dict) else token


def added_token(options: dict[str, Any]) -> AddedToken:
    """Make a token of a file's options, but for the mark of a class that some have."""
    return AddedToken(**{key: value for key, value in options.items() if key != "__type"})


def as_special(token: str | dict[str, Any], path: Path) -> AddedToken:
    """Return a special token with the options that a file has around it. Raises UserError."""
    options = token if isinstance(token, dict) else {"content": token}
    try:
        return added_token(options | {"special": True})
    except TypeError as error:
        raise UserError(f"{path}: the token {options['content']!r}: {first_line(error)}") from error


def listed_tokens(directory: Path, own: Added, special: list[AddedToken]) -> Added:
    """Return the tokens that tokenizer_config.json lists, else the other files' (own, too), by id.

    Raises UserError for what is no list of tokens.
    """
    found = {}
    decoder = read_settings(directory / "tokenizer_config.json").get("added_tokens_decoder")
    names = {token.content for token in special}
    try:
        if decoder is not None:
            return {int(i): added_token(options) for i, options in decoder.items()}
        for name, i in read_settings(directory / "added_tokens.json").items():
            found[int(i)] = AddedToken(name, special=name in names)
    except (ArithmeticError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{directory}: its added tokens cannot be read ({error})") from error
    return found | own


def read_tokenizer(directory: Path) -> Tokenizer:
    """Read tokenizer.json, else vocab.txt, with the settings of tokenizer_config.json.

    Raises UserError if neither file exists, or for a tokenizer or a setting that is not BERT's.
    """
    settings = Settings.from_directory(directory)
    path, own = directory / "tokenizer.json", {}
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
        if (side := (tokenizer.truncation or {}).get("direction", "right")) != "right":
            raise UserError(f"{path}: truncation.direction is {side!r}; only 'right' is supported")
        own = tokenizer.get_added_tokens_decoder()
        if not settings.plain:
            tokenizer = as_bert(tokenizer, path)
    elif (path := directory / "vocab.txt").is_file():
        tokenizer = read_vocab(path)
        if settings.lowercase is None:
            settings = replace(settings, lowercase=not is_cased(tokenizer))
    else:
        raise UserError(f"{directory}: neither tokenizer.json nor vocab.txt is there")
    settings.apply_to(tokenizer)  # first: some tokens are normalized as they are added
    add_tokens(tokenizer, own, directory, settings.plain)
    settings.add_ends(tokenizer, path)
    return tokenizer


def as_bert(tokenizer: Tokenizer, path: Path) -> Tokenizer:
    """Return what BERT's classes take of a tokenizer.json: the vocabulary, without added tokens.

    Raises UserError for a setting that they do not take.
    """
    for key, usual in WORDPIECE.items():
        if (found := getattr(tokenizer.model, key)) != usual:
            raise UserError(
                f"{path}: model.{key} is {found!r}, BERT's classes have {usual!r}: to keep it, "
                f"write {PLAIN_CLASSES[0]} as tokenizer_class in tokenizer_config.json"
            )
    taken = Tokenizer(tokenizer.model)
    taken.normalizer, taken.decoder = tokenizer.normalizer, tokenizer.decoder
    return taken
