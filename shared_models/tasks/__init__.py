"""Tasks, one a file: a network and its `TASK`. The file's name is the task's name."""
