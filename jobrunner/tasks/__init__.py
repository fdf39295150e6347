"""Tasks: plain functions under a name, what they take, and how their values become JSON."""
