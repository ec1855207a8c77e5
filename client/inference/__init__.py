"""Use of a finished study's network on a site's own patients: predictions, recalibration, conformal sets."""
