"""The paper's tables as recipes that run, stop and go on."""

import minbert  # noqa: F401 - before slower imports: from here on Ctrl-C is one line
