"""The site's tables: files and queries, their columns, and the values in them."""
