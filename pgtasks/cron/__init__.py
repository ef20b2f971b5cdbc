"""Timetables: crontab files, entries in code, and the scheduler that adds their jobs exactly once."""
