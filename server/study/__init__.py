"""The coordinating center's side of a study."""
