"""Speed and memory, side by side with the libraries people would pick instead."""
