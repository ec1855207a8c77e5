"""One file a task: its network and its `TASK`. The file's name is the task's name."""
