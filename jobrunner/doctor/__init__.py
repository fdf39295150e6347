"""The doctor: finds what would lose jobs, or keep them from running."""
