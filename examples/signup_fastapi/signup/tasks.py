"""The mail."""

import os
import smtplib
from email.message import EmailMessage

from pgtasks import Backoff, current_job, task


@task(max_attempts=10, retry=Backoff(first=0.5, longest=600), expected=(OSError, smtplib.SMTPException))
def send_welcome(*, to: str, name: str) -> None:
    """Welcome somebody. While the mail server cannot be reached it is tried again, for about an hour.

    A process may die when the mail is sent and the job is not yet done. Then the mail is sent once more, under the same
    Message-ID, by which mail programs know it for the same.
    """
    message = EmailMessage()
    message["From"] = "hello@example.com"
    message["To"] = to
    message["Message-ID"] = f"<job-{current_job().job.id}@example.com>"
    message["Subject"] = f"Welcome, {name}!"
    message.set_content(f"Hello {name}, we are glad that you are here.")
    with smtplib.SMTP(os.environ.get("SMTP_HOST", "localhost"), int(os.environ.get("SMTP_PORT", "25"))) as server:
        server.send_message(message)
