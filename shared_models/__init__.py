"""The science, the same at every site: tasks, targets, networks, messages, statistics."""
