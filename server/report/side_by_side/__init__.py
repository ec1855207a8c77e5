"""Page of two studies side by side: what differs in settings, hospitals, performance, curves, training, privacy."""
