"""A run around its loop: arguments, set-up, checkpoints, log, several runs, and its end."""
