"""Contract shared by all packages of the client: a site's protocols, columns, cells and paths."""
