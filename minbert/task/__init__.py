"""What a task is, and how its files are loaded and scored."""
