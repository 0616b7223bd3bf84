"""BertTokenizer: WordPiece as published, on the `tokenizers` library."""

import hashlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

# Without this the library warns about forks; minbert tokenizes in the main process only.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

import numpy as np
from tokenizers import AddedToken, Encoding, Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing

from minbert.errors import UserError
from minbert.files import check_content, first_line, read_json

# A text is cut to this before it is tokenized: a line of 80 MB would take 10 GB of memory.
CHARACTERS_A_TOKEN = 1000
MAX_ID = 10**7
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Classes of transformers that tokenize as BERT does; the second kind takes tokenizer.json as it is.
BERT_CLASSES = ("BertTokenizer", "BertTokenizerFast")
PLAIN_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")


@dataclass(frozen=True)
class Settings:
    """What tokenizer_config.json says; its keys do_lower_case and so on."""

    lowercase: bool | None = None  # None: there is no such file
    strip_accents: bool | None = None  # None: as lowercase
    chinese_chars: bool = True  # spaces around each
    plain: bool = False  # tokenizer.json counts alone

    @classmethod
    def from_directory(cls, directory: Path) -> "Settings":
        """Read tokenizer_config.json if it is there. Raises UserError for what is not BERT's."""
        path = directory / "tokenizer_config.json"
        if not path.is_file():
            return cls()
        values = read_json(path)
        if not isinstance(values, dict):
            raise UserError(f"{path}: not an object of settings")
        name = values.get("tokenizer_class") or BERT_CLASSES[0]
        if name not in (*BERT_CLASSES, *PLAIN_CLASSES):
            raise UserError(f"{path}: tokenizer_class is {name!r}; only BERT's WordPiece is here")
        found = {}
        defaults = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True}
        for key, default in defaults.items():
            found[key] = values.get(key, default)
            if not isinstance(found[key], bool | None) or (found[key] is None and default):
                raise UserError(f"{path}: {key} is {found[key]!r}; it must be true or false")
        return cls(*found.values(), plain=name in PLAIN_CLASSES)

    def apply_to(self, tokenizer: Tokenizer, path: Path) -> None:
        """Make a tokenizer of these settings. Raises UserError without [CLS] and [SEP]."""
        ends = {token: tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]")}
        if None in ends.values():
            raise UserError(f"{path}: no [CLS] or [SEP] in it: not a BERT vocabulary")
        if self.plain:
            if tokenizer.post_processor is None:
                raise UserError(f"{path}: adds no [CLS] and [SEP] (its post_processor is null)")
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


def wordpiece(path: Path) -> Tokenizer:
    """Read a vocab.txt: a token a line, its id the line's number. Raises UserError."""
    check_content(path)
    try:
        words = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 ({error.reason}); fetch the model again") from error
    vocab = {word.rstrip("\r"): i for i, word in enumerate(words) if word.rstrip("\r")}
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
        raise UserError(f"{path}: a token with the id {largest}; the file is damaged")


def is_cased(tokenizer: Tokenizer) -> bool:
    """Return whether a word of the vocabulary has an upper-case letter."""
    words = (w for w in tokenizer.get_vocab() if w not in SPECIAL and w[:1] != "[")
    return any(word != word.lower() for word in words)


def add_tokens(tokenizer: Tokenizer, directory: Path) -> None:
    """Add the tokens that stand in files beside the vocabulary, with the ids they have there.

    Raises UserError for an id that the token would not get here.
    """
    for token, i in sorted(added_tokens(directory), key=lambda pair: pair[1]):
        if tokenizer.token_to_id(token.content) is None:
            (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
        if (found := tokenizer.token_to_id(token.content)) != i:
            raise UserError(
                f"{directory}: the added token {token.content!r} has the id {i} in its file, the "
                f"vocabulary gives it {found}"
            )


def added_tokens(directory: Path) -> list[tuple[AddedToken, int]]:
    """Return the tokens of added_tokens.json and of tokenizer_config.json, with their ids."""
    found = []
    path = directory / "added_tokens.json"
    decoder = directory / "tokenizer_config.json"
    try:
        for content, i in (read_json(path) if path.is_file() else {}).items():
            found.append((AddedToken(content), int(i)))
        settings = read_json(decoder) if decoder.is_file() else {}
        for i, options in settings.get("added_tokens_decoder", {}).items():
            options = {key: value for key, value in options.items() if key != "__type"}
            found.append((AddedToken(**options), int(i)))
    except (ArithmeticError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{directory}: its added tokens cannot be read ({error})") from error
    return found


class BertTokenizer:
    """A WordPiece tokenizer: `[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`.

    Sequences longer than max_length are cut at the end of the longer sentence.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.fingerprint = hashlib.sha256(tokenizer.to_str().encode()).digest()
        missing = [token for token in SPECIAL if tokenizer.token_to_id(token) is None]
        if missing:
            own = [t.content for t in tokenizer.get_added_tokens_decoder().values()][:8]
            has = f" (its own special tokens: {', '.join(own)})" if own else ""
            raise UserError(f"vocabulary lacks {', '.join(missing)}: not a BERT vocabulary{has}")
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = map(
            tokenizer.token_to_id, SPECIAL
        )

    @property
    def vocab_size(self) -> int:
        """The number of ids, counting those of blank and repeated lines, which no token has."""
        return max(self.tokenizer.get_vocab().values()) + 1

    def check_fits(self, embeddings: int) -> None:
        """Raise UserError if a model with so many embeddings lacks some of these ids."""
        if self.vocab_size > embeddings:
            raise UserError(
                f"the tokenizer has {self.vocab_size} words, the model {embeddings} embeddings: "
                f"they do not belong together"
            )

    @classmethod
    def from_directory(cls, directory: Path) -> "BertTokenizer":
        """Read tokenizer.json, else vocab.txt, with the settings of tokenizer_config.json.

        The ids are those of transformers. Raises UserError if neither file exists, or for a
        tokenizer or a setting that is not BERT's.
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
            tokenizer = wordpiece(path)
            if settings.lowercase is None:
                settings = replace(settings, lowercase=not is_cased(tokenizer))
            settings.apply_to(tokenizer, path)
        else:
            raise UserError(f"{directory}: neither tokenizer.json nor vocab.txt is there")
        add_tokens(tokenizer, directory)
        return cls(tokenizer)

    @classmethod
    def from_vocab(cls, path: Path, lowercase: bool | None = None) -> "BertTokenizer":
        """Read a vocab.txt, a token a line.

        lowercase None: texts are lower-cased unless a word of the vocabulary has an upper-case
        letter.
        """
        tokenizer = wordpiece(path)
        lowercase = not is_cased(tokenizer) if lowercase is None else lowercase
        Settings(lowercase=lowercase).apply_to(tokenizer, path)
        return cls(tokenizer)

    def encode_batch(
        self, texts: list[str], pairs: list[str] | None = None, max_length: int = 512
    ) -> list[Encoding]:
        """Return an encoding (`.ids`, `.type_ids`) of each text or pair, by one parallel call."""
        self.tokenizer.enable_truncation(max_length, strategy="longest_first")
        longest = max_length * CHARACTERS_A_TOKEN
        texts, pairs = (x and [text[:longest] for text in x] for x in (texts, pairs))
        inputs = texts if pairs is None else list(zip(texts, pairs, strict=True))
        return self.tokenizer.encode_batch_fast(inputs)

    def encode_plain(self, texts: list[str]) -> list[list[int]]:
        """Return the ids of each text, not cut, without [CLS] and [SEP]."""
        self.tokenizer.no_truncation()
        encodings = self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def continues(self) -> np.ndarray:
        """Return which ids are pieces that continue a word (##ing), (V,) bool."""
        result = np.zeros(self.vocab_size, dtype=bool)
        for token, i in self.tokenizer.get_vocab().items():
            result[i] = token.startswith("##")
        return result

    def save(self, directory: Path, max_length: int) -> None:
        """Write tokenizer.json, and the settings without which transformers takes it as uncased.

        max_length: the model's longest sequence.
        """
        self.tokenizer.no_truncation()
        text = self.tokenizer.to_str(pretty=True)  # the library's save raises a bare Exception
        (directory / "tokenizer.json").write_text(text, encoding="utf-8")
        normalizer = self.tokenizer.normalizer
        # this class of transformers takes tokenizer.json as it is, whatever its normalizer
        settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
        if isinstance(normalizer, BertNormalizer):
            settings = {
                "tokenizer_class": "BertTokenizer",
                "do_lower_case": normalizer.lowercase,
                "strip_accents": normalizer.strip_accents,
                "tokenize_chinese_chars": normalizer.handle_chinese_chars,
            }
        settings |= {f"{token[1:-1].lower()}_token": token for token in SPECIAL}
        settings["model_max_length"] = max_length
        settings["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
        path = directory / "tokenizer_config.json"
        path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
