"""A site's own result of a study: exact figures, each test patient's prediction, the network. It stays at the site."""
