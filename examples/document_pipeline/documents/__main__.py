"""Takes documents in, lets a worker do what there is to do, and shows what it has found."""

import subprocess
import sys
from pathlib import Path

from documents.tasks import split
from pgtasks import current_app

HERE = Path(__file__).parent


def take_in(file: Path) -> None:
    """Store a document and add the first job for it, in one transaction."""
    with current_app().connection() as connection, connection.transaction():
        query = "insert into documents.documents (name, text) values (%s, %s) returning id"
        [(document,)] = connection.execute(query, [file.name, file.read_text("utf-8")])
        split.defer(document, connection=connection)


def main() -> None:
    """Do all of it for the files that are named, or for those that come with the example."""
    subprocess.run([sys.executable, "-m", "pgtasks", "migrate"], check=True)
    with current_app().connection() as connection:
        connection.execute((HERE / "tables.sql").read_bytes())
    named = [Path(argument) for argument in sys.argv[1:]]
    for file in named or sorted((HERE.parent / "texts").iterdir()):
        take_in(file)
    worker = ["pgtasks", "worker", "documents.tasks", "--once", "--log-level", "error"]
    subprocess.run([sys.executable, "-m", *worker], check=True)
    query = """
        select name, count(*), most_frequent
        from documents.documents join documents.parts on document = id
        group by id order by id
    """
    with current_app().connection() as connection:
        for name, parts, words in connection.execute(query):
            print(f"{name}: {', '.join(words)} ({parts} parts)")


if __name__ == "__main__":
    main()
