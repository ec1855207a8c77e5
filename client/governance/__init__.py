"""A hospital's control over what leaves it: who takes part, what is answered, and how often."""
