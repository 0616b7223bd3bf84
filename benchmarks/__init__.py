"""Speed and memory of minbert beside those of the libraries that people would use instead."""
