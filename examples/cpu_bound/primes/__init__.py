"""Primes are counted by as many processes as there are CPUs."""
