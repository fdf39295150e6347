"""The store: the engine, the tables and every SQL statement.  The one truth of the system."""
