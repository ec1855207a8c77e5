"""What every room of the client shares: a site's protocols, columns, cells and paths."""
