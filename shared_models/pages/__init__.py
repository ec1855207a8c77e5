"""Pages of tables and figures, as a study's report and a site's own result are: their elements, plots and layout."""
