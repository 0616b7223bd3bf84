"""Speed and memory of minbert beside those of the libraries that people would use instead."""

import minbert  # noqa: F401 - before slower imports: from here on Ctrl-C is one line
