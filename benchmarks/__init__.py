"""How fast pgtasks is, beside its peers in the same run: `python -m benchmarks --list`."""
