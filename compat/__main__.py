"""Run a course's script with minbert in place of the course's own BERT:

python -m compat FOLDER sanity_check.py
python -m compat FOLDER classifier.py --option finetune --epochs 1

FOLDER is where the course's files are. `bert`, `optimizer` and `tokenizer` are minbert's, whatever
the folder has; `base_bert`, `config`, `utils` and `multitask_classifier` are the folder's if it has
them. MINBERT_MODEL names other weights than bert-base-uncased.
"""

import os
import runpy
import sys
import traceback
from pathlib import Path

from minbert.cli import EMPTY, run_script
from minbert.errors import UserError

HERE = Path(__file__).resolve().parent


def main(argv: list[str]) -> int:
    """Run the script in its folder, with the arguments after its name."""
    if argv[:1] in (["-h"], ["--help"]):
        print((__doc__ or "").strip())
        return 0
    if len(argv) < 2 or argv[0].startswith("-"):
        raise UserError("write python -m compat FOLDER SCRIPT, and the script's arguments after it")
    if not (argv[0].strip() and argv[1].strip()):
        raise UserError(f"a word of FOLDER SCRIPT is {EMPTY}")
    folder, script = Path(os.path.realpath(argv[0])), argv[1]
    if not (folder / script).is_file():
        raise UserError(f"{folder / script}: no such script")
    # The courses' scripts load what they saved themselves, which holds more than tensors.
    os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    weights = os.environ.get("MINBERT_MODEL", "")
    if weights and Path(weights).is_dir():  # as it is called from here
        os.environ["MINBERT_MODEL"] = str(Path(weights).resolve())
    os.chdir(folder)
    sys.argv = [script, *argv[2:]]
    sys.path[:] = [str(HERE), str(folder), str(HERE / "fallback"), *sys.path]
    try:
        runpy.run_path(str(folder / script), run_name="__main__")
    except BrokenPipeError:
        raise
    except (OSError, RuntimeError, MemoryError):  # the script's own, told as Python tells it
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    run_script(main)
