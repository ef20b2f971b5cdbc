"""What pgtasks does to the queue in the database, one method per SQL operation."""
