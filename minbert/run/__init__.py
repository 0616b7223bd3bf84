"""The folder of a run: arguments, log, checkpoints, and what is left when it ends."""
