"""Three steps. Each writes what it has found, and adds the jobs that follow, in one transaction with its own end.

So a step that fails, or whose process dies, leaves nothing behind and is simply run again; and no step is forgotten.
"""

import re
from collections import Counter
from dataclasses import dataclass

from psycopg.types.json import Jsonb

from pgtasks import JobContext, task

LINES = 5
"""How many lines a part has."""


@dataclass(frozen=True)
class Part:
    """One part of a document, by its place."""

    document: int
    number: int


@task(transactional=True)
def split(document: int, ctx: JobContext) -> None:
    """Cut a document into parts, and have all of them counted, as many at once as there are workers."""
    [(text,)] = ctx.transaction.execute("select text from documents.documents where id = %s", [document])
    lines = text.splitlines()
    starts = range(0, max(len(lines), 1), LINES)
    for number, start in enumerate(starts):
        part = "\n".join(lines[start : start + LINES])
        ctx.transaction.execute("insert into documents.parts values (%s, %s, %s)", [document, number, part])
        ctx.defer(count, Part(document, number))
        ctx.progress(number + 1, len(starts), "parts")
    ctx.transaction.execute("update documents.documents set parts_left = %s where id = %s", [len(starts), document])


@task(transactional=True)
def count(part: Part, ctx: JobContext) -> None:
    """Count the longer words of a part. Whoever does the last one has the document put together."""
    place = [part.document, part.number]
    [(text,)] = ctx.transaction.execute("select text from documents.parts where (document, number) = (%s, %s)", place)
    words = Counter(re.findall(r"[a-z]{5,}", text.lower()))
    ctx.transaction.execute(
        "update documents.parts set words = %s where (document, number) = (%s, %s)", [Jsonb(words), *place]
    )
    # Two that end at the same time wait for each other here, so that exactly one of them sees a zero.
    [(left,)] = ctx.transaction.execute(
        "update documents.documents set parts_left = parts_left - 1 where id = %s returning parts_left", [part.document]
    )
    if left == 0:
        ctx.defer(put_together, part.document)


@task(transactional=True)
def put_together(document: int, ctx: JobContext) -> None:
    """Find the words that occur most often, when all parts have been counted."""
    parts = ctx.transaction.execute("select words from documents.parts where document = %s", [document]).fetchall()
    words: Counter[str] = Counter()
    for number, (counted,) in enumerate(parts, 1):
        words.update(counted)
        ctx.progress(number, len(parts), "parts")
    ctx.transaction.execute(
        "update documents.documents set most_frequent = %s where id = %s",
        [sorted(words, key=lambda word: (-words[word], word))[:3], document],
    )
