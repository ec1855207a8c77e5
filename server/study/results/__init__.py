"""Results of a study: their schema, contents, sections and tables."""
