"""README and docs as data: their fenced blocks, and the commands in them."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
NOT_RUN = re.compile(r"<!-- not run by the tests: .+ -->")
FAILS = re.compile(r"<!-- exits with (\d+) -->")
SHELL = re.compile(r"[|<>;&$]")  # signs that only a shell understands


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str
    runs: bool = True  # no comment above it says otherwise
    code: int = 0  # the exit code that a comment above it announces
    output: str = ""  # the `text` block that follows it

    @property
    def place(self) -> str:
        """Where it is, for a message."""
        return f"{self.page}:{self.line}"

    def commands(self) -> list[str]:
        """Return a shell block's commands as written, continued lines and here-documents whole."""
        found, end = [""], ""
        for line in self.text.splitlines():
            found[-1] += line + "\n"
            if here := re.search(r"<<'?(\w+)", line):
                end = here[1]
            elif (end and line != end) or line.endswith("\\"):
                continue
            else:
                end = ""
            if not end:
                found.append("")
        return [command.strip() for command in found if command.strip()]


def blocks_of(page: str) -> list[Block]:
    """Return a page's fenced blocks, in order."""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    found: list[Block] = []
    numbers = iter(range(len(lines)))
    for start in numbers:
        if not lines[start].startswith("```"):
            continue
        end = next(n for n in numbers if lines[n] == "```")
        text, above = "\n".join(lines[start + 1 : end]), lines[start - 1]
        language = lines[start].removeprefix("```")
        if language == "text" and found and not found[-1].output:
            found[-1] = Block(**{**vars(found[-1]), "output": text})
            continue
        code = FAILS.fullmatch(above)
        runs = not NOT_RUN.fullmatch(above)
        found.append(Block(page, start + 1, language, text, runs, int(code[1]) if code else 0))
    return found


def python_words(command: str) -> list[str] | None:
    """Return what follows `python` if a command needs no shell; else None."""
    plain = re.sub(r"'[^']*'|\"[^\"$]*\"", "", command)
    words = words_of(command)
    return words[1:] if words[0] == "python" and not SHELL.search(plain) else None


def words_of(command: str) -> list[str]:
    """Return a command's words, its continued lines as one."""
    return shlex.split(command.replace("\\\n", " "))


def script_words(command: str) -> list[str]:
    """Return script and arguments of a command with python or torchrun; nothing for another."""
    words = words_of(command)
    if words[0] == "torchrun":
        return words[next(i for i, word in enumerate(words) if word.endswith(".py")) :]
    return words[1:] if words[0] == "python" else []


def masked(line: str) -> str:
    """Return a line with its numbers and spaces made equal."""
    return " ".join(re.sub(r"-?\d+([.,]\d+)*", "#", line).split())


def heading_anchors(text: str) -> set[str]:
    """Return the names by which a page's headings are linked to."""
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
