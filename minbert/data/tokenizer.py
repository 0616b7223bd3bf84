"""BertTokenizer: WordPiece as published, on the `tokenizers` library."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

# Without this the library warns about forks; minbert tokenizes in the main process only.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

import numpy as np
from tokenizers import Encoding, Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing

from minbert.errors import UserError

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


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
            raise UserError(f"vocabulary lacks {', '.join(missing)}: not a BERT vocabulary")
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = map(
            tokenizer.token_to_id, SPECIAL
        )

    @property
    def vocab_size(self) -> int:
        """The number of ids."""
        return self.tokenizer.get_vocab_size()

    def check_fits(self, embeddings: int) -> None:
        """Raise UserError if a model with so many embeddings lacks some of these ids."""
        if self.vocab_size > embeddings:
            raise UserError(
                f"the tokenizer has {self.vocab_size} words, the model {embeddings} embeddings: "
                f"they do not belong together"
            )

    @classmethod
    def from_directory(cls, directory: Path) -> "BertTokenizer":
        """Read tokenizer.json, else vocab.txt with the casing of tokenizer_config.json.

        Raises UserError if neither exists or the file is not a BERT tokenizer's.
        """
        if (directory / "tokenizer.json").is_file():
            try:
                return cls(Tokenizer.from_file(str(directory / "tokenizer.json")))
            except Exception as error:  # the library raises nothing narrower
                path = directory / "tokenizer.json"
                raise UserError(f"{path}: cannot be read ({error})") from error
        if (directory / "vocab.txt").is_file():
            settings = directory / "tokenizer_config.json"
            options = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
            return cls.from_vocab(directory / "vocab.txt", options.get("do_lower_case"))
        raise UserError(f"{directory}: neither tokenizer.json nor vocab.txt is there")

    @classmethod
    def from_vocab(cls, path: Path, lowercase: bool | None = None) -> "BertTokenizer":
        """Read a vocab.txt, a token a line.

        lowercase None: texts are lower-cased unless a word of the vocabulary has an upper-case
        letter.
        """
        words = path.read_text(encoding="utf-8").split("\n")
        vocab = {word.rstrip("\r"): i for i, word in enumerate(words) if word.rstrip("\r")}
        if lowercase is None:
            lowercase = not any(
                word != word.lower() for word in vocab if word not in SPECIAL and word[0] != "["
            )
        if "[CLS]" not in vocab or "[SEP]" not in vocab:
            raise UserError(f"{path}: no [CLS] or [SEP] in it: not a BERT vocabulary")
        tokenizer = Tokenizer(WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=100))
        tokenizer.normalizer = BertNormalizer(lowercase=lowercase)
        tokenizer.pre_tokenizer = BertPreTokenizer()
        tokenizer.post_processor = BertProcessing(
            ("[SEP]", vocab["[SEP]"]), ("[CLS]", vocab["[CLS]"])
        )
        tokenizer.add_special_tokens([word for word in SPECIAL if word in vocab])
        return cls(tokenizer)

    def encode_batch(
        self, texts: list[str], pairs: list[str] | None = None, max_length: int = 512
    ) -> list[Encoding]:
        """Return an encoding (`.ids`, `.type_ids`) of each text or pair, by one parallel call."""
        self.tokenizer.enable_truncation(max_length, strategy="longest_first")
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
        self.tokenizer.save(str(directory / "tokenizer.json"))
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
