"""What follows comments: one mail for many of them, notices on devices, and an index."""

from dataclasses import dataclass

from pgtasks import BatchResult, JobContext, task


@dataclass
class Comment:
    """A comment, on its way to somebody who reads the article."""

    reader: str
    author: str
    text: str


class AsleepError(Exception):
    """A device does not answer."""


@task
def mail(comments: list[Comment]) -> None:
    """Mail to a reader all comments that have come together."""
    authors = ", ".join(comment.author for comment in comments)
    print(f"mail to {comments[0].reader}: {len(comments)} comments, by {authors}")


@task(retry=[0.2, 1, 5], expected=AsleepError)
def notify(devices: list[str], ctx: JobContext) -> BatchResult:
    """Light up devices. Those that do not answer are tried again, and no others."""
    failures: dict[int, BaseException] = {}
    for place, device in enumerate(devices):
        if "phone" in device and ctx.attempt == 1:
            failures[place] = AsleepError(f"{device} is asleep")
        else:
            print(f"{device} lights up, at attempt {ctx.attempt}")
    return BatchResult(failures)


@task
def rebuild_index(*, article: str) -> None:
    """Make what is written under an article be found."""
    print(f"the index of {article!r} is rebuilt")
