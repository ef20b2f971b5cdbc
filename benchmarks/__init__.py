"""Measurements: what pgtasks does in a second on this machine, beside a bare loop in the same run."""
