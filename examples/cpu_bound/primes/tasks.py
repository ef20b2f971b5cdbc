"""The work: pure Python, which a CPU is busy with from the first line to the last."""

import os
import time
from dataclasses import dataclass
from math import isqrt

from pgtasks import JobContext, task


@dataclass(frozen=True)
class Numbers:
    """The numbers from `start` up to, but not including `stop`."""

    start: int
    stop: int


@task(transactional=True)
def count_primes(numbers: Numbers, ctx: JobContext) -> None:
    """Count the primes among some numbers, and keep how many there are."""
    began = time.thread_time()
    found = 0
    for number in range(numbers.start, numbers.stop):
        found += is_prime(number)
        if number % 1000 == 0:
            ctx.abort.raise_if_set()  # so that a worker that has to stop need not wait for the job's end
            ctx.progress(number - numbers.start, numbers.stop - numbers.start, "numbers")
    row = [numbers.start, found, os.getpid(), time.thread_time() - began]
    ctx.transaction.execute("insert into primes.counts values (%s, %s, %s, %s)", row)


def is_prime(number: int) -> bool:
    """Tell whether a number is a prime, the long way."""
    return number > 1 and all(number % divisor for divisor in range(2, isqrt(number) + 1))
