"""Science shared by all sites: tasks, targets, networks, messages, metrics."""
