"""BertTokenizer: WordPiece as published, on the `tokenizers` library."""

import hashlib
import json
import os
import threading
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from tokenizers import Encoding, Tokenizer
from tokenizers.decoders import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from minbert.data.texts import as_list, checked_text
from minbert.data.vocabulary import (
    FIVE,
    SPECIAL,
    WORDPIECE,
    Settings,
    add_special_tokens,
    is_cased,
    read_tokenizer,
    read_vocab,
)
from minbert.errors import UserError
from minbert.weights.resolve import resolve

# Truncation is a state of the library's tokenizer, which calls from several threads share.
TRUNCATING = threading.Lock()


def after_fork() -> None:
    """Let a forked process, as a DataLoader's, tokenize in the one thread that it has."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    TRUNCATING.release()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(
        before=TRUNCATING.acquire, after_in_parent=TRUNCATING.release, after_in_child=after_fork
    )

# Characters of a text that are read for each token that a sequence may have; the rest is cut off
# before it is tokenized: a line of 80 MB would take 10 GB of memory.
CHARACTERS_PER_TOKEN = 1000
SHORTEST, LONGEST = 4, 512  # tokens of a sequence


class BertTokenizer:
    """A WordPiece tokenizer: `[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`.

    `model(**BertTokenizer.from_pretrained(name)(texts))`. Sequences longer than max_length are cut
    at the end of the longer sentence.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        if tokenizer.post_processor is None:
            raise UserError("adds no [CLS] and [SEP] (post_processor in tokenizer.json is null)")
        self.tokenizer = tokenizer
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.continuing = getattr(tokenizer.model, "continuing_subword_prefix", None) or "##"
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
    def from_pretrained(cls, name_or_dir: str | Path = "bert-base-uncased") -> Self:
        """Load the tokenizer of what `BertModel.from_pretrained` loads: a name, folder or run."""
        return cls.from_directory(resolve(name_or_dir))

    @classmethod
    def from_directory(cls, directory: str | Path) -> Self:
        """Read tokenizer.json, else vocab.txt, with the settings of tokenizer_config.json.

        The ids are those of transformers, which without tokenizer_config.json would read a cased
        vocabulary as uncased. Raises UserError if neither file exists, or for a tokenizer or a
        setting that is not BERT's.
        """
        tokenizer = read_tokenizer(Path(directory))
        try:
            return cls(tokenizer)
        except UserError as error:
            raise UserError(f"{directory}: {error}") from error

    @classmethod
    def from_vocab(cls, path: str | Path) -> Self:
        """Read a vocab.txt; texts are lower-cased unless a word of it has an upper-case letter."""
        tokenizer = read_vocab(Path(path))
        settings = Settings(lowercase=not is_cased(tokenizer))
        settings.apply_to(tokenizer)
        add_special_tokens(tokenizer, FIVE)
        settings.add_ends(tokenizer, Path(path))
        try:
            return cls(tokenizer)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error

    def __call__(
        self,
        texts: str | Sequence[str],
        pairs: str | Sequence[str] | None = None,
        max_length: int = 512,
    ) -> dict[str, Tensor]:
        """Return `input_ids`, `attention_mask` and `token_type_ids`, (B, T) int64 each, padded.

        texts: one or several; pairs: the second sentence of each. Raises UserError if there is no
        text, if one is not a str, if the number of pairs differs from that of texts, and for a
        max_length that nothing could be cut to.
        """
        check_max_length(max_length)
        first, second = given_texts(texts), None if pairs is None else given_texts(pairs)
        if not first or (second is not None and len(second) != len(first)):
            found = "none" if not first else f"{len(first)}, and {len(second)} pairs"
            raise UserError(f"give a text or more, each with its pair or all without: {found} here")
        encodings = self.encode_batch(first, second, max_length)
        ids = [torch.tensor(encoding.ids, device="cpu") for encoding in encodings]
        segments = [torch.tensor(encoding.type_ids, device="cpu") for encoding in encodings]
        return {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=self.pad_id),
            "attention_mask": pad_sequence(list(map(torch.ones_like, ids)), batch_first=True),
            "token_type_ids": pad_sequence(segments, batch_first=True),
        }

    def decode(self, ids: Sequence[int] | Tensor) -> str:
        """Return the text of one sequence, (T,), without [CLS], [SEP] and [PAD].

        Raises UserError for what is not ids of one, and for an id that no word has.
        """
        try:
            row = torch.as_tensor(ids)
        except (TypeError, ValueError, RuntimeError):  # a text, rows of several lengths, ...
            row = torch.empty(1, 0)
        if row.ndim != 1 or (len(row) and row.is_floating_point()):
            raise UserError("decode takes the ids of one sequence: of a batch write ids[0]")
        left_out = {self.cls_id, self.sep_id, self.pad_id}
        kept = [i for i in row.tolist() if i not in left_out]
        largest = 2**32 - 1  # that `id_to_token` takes
        words = {i: self.tokenizer.id_to_token(i) for i in kept if 0 <= i <= largest}
        if unknown := [i for i in kept if words.get(i) is None]:
            raise UserError(f"id {unknown[0]}: no word of this vocabulary has it")
        return WordPiece(self.continuing).decode([words[i] for i in kept])

    def encode_batch(
        self, texts: list[str], pairs: list[str] | None = None, max_length: int = 512
    ) -> list[Encoding]:
        """Return an encoding (`.ids`, `.type_ids`) of each text or pair, by one parallel call."""
        longest = max_length * CHARACTERS_PER_TOKEN
        texts, pairs = (x and [text[:longest] for text in x] for x in (texts, pairs))
        inputs = texts if pairs is None else list(zip(texts, pairs, strict=True))
        with TRUNCATING:
            self.tokenizer.enable_truncation(max_length, strategy="longest_first")
            return self.tokenizer.encode_batch_fast(inputs)

    def encode_words(
        self, sentences: Sequence[Sequence[str]], max_length: int = 512
    ) -> list[tuple[list[int], list[int]]]:
        """Return each sentence's ids, and where in them each word's first piece is.

        -1 stands for a word that is cut off or, as a control character, has no piece.
        """
        longest = max_length * CHARACTERS_PER_TOKEN
        inputs = [[word[:longest] for word in words[:longest]] for words in sentences]
        with TRUNCATING:
            self.tokenizer.enable_truncation(max_length, strategy="longest_first")
            # encode_batch_fast does not tell which word a piece is of
            encodings = self.tokenizer.encode_batch(inputs, is_pretokenized=True)
        found = []
        for words, encoding in zip(sentences, encodings, strict=True):
            starts = [-1] * len(words)
            for place, word in reversed([*enumerate(encoding.word_ids)]):
                if word is not None:
                    starts[word] = place
            found.append((encoding.ids, starts))
        return found

    def word_spans(self, text: str) -> list[tuple[int, int]]:
        """Return where the words of a text begin and end, in characters of it.

        BERT splits a text at blanks, and each punctuation mark and each Chinese character is a word
        of its own. What follows the last character that any model would read is left out.
        """
        with TRUNCATING:
            self.tokenizer.no_truncation()
            text = text[: LONGEST * CHARACTERS_PER_TOKEN]
            encoding = self.tokenizer.encode(text, add_special_tokens=False)
        spans: dict[int, tuple[int, int]] = {}
        for word, (start, end) in zip(encoding.word_ids, encoding.offsets, strict=True):
            if word is not None:
                spans[word] = (spans.get(word, (start, end))[0], end)
        ends = (end_of_letter(text, end) for _, end in spans.values())
        return [(start, end) for (start, _), end in zip(spans.values(), ends, strict=True)]

    def encode_plain(self, texts: list[str]) -> list[list[int]]:
        """Return the ids of each text, not cut, without [CLS] and [SEP]."""
        with TRUNCATING:
            self.tokenizer.no_truncation()
            encodings = self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def continuation_pieces(self) -> np.ndarray:
        """Return which ids are pieces that continue a word (##ing), (V,) bool."""
        result = np.zeros(self.vocab_size, dtype=bool)
        for token, i in self.tokenizer.get_vocab().items():
            result[i] = token.startswith(self.continuing)
        return result

    def save(self, directory: str | Path, max_length: int) -> None:
        """Write tokenizer.json, and the settings without which transformers takes it as uncased.

        max_length: the model's longest sequence.
        """
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        with TRUNCATING:
            self.tokenizer.no_truncation()
            text = self.tokenizer.to_str(pretty=True)  # the library's save raises a bare Exception
        (directory / "tokenizer.json").write_text(text, encoding="utf-8")
        # this class, here and in transformers, takes tokenizer.json as it is, whatever is in it
        settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
        if self.has_bert_parts():
            normalizer = self.tokenizer.normalizer
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

    def has_bert_parts(self) -> bool:
        """Return whether transformers' BertTokenizer, whose parts are fixed, gives the same ids."""
        t = self.tokenizer
        return (
            isinstance(t.normalizer, BertNormalizer) and t.normalizer.clean_text
            and isinstance(t.pre_tokenizer, BertPreTokenizer)
            and isinstance(t.post_processor, BertProcessing)
            and all(getattr(t.model, key, None) == usual for key, usual in WORDPIECE.items())
        )  # fmt: skip


def check_max_length(max_length: Any) -> None:
    """Raise UserError for what is no number of tokens that a text could be cut to."""
    if not isinstance(max_length, int | np.integer) or max_length < SHORTEST:
        raise UserError(f"max_length {max_length!r}: write a whole number, {SHORTEST} or more")


def given_texts(texts: str | Sequence[str]) -> list[str]:
    """Return one text or several as a list. Raises UserError for what are none."""
    several = [texts] if isinstance(texts, str) else as_list(texts)
    return [checked_text(text, number) for number, text in enumerate(several, start=1)]


def end_of_letter(text: str, end: int) -> int:
    """Return `end` moved past the accents that follow a letter as characters of their own."""
    while end < len(text) and unicodedata.combining(text[end]):
        end += 1
    return end
