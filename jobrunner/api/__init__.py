"""The HTTP API: takes jobs in, tells how they stand.  It never imports user code and never runs a job."""
