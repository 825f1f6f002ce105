"""A backup of a database, as tools for that make one and put it back."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import cast

from bson import CodecOptions, decode_file_iter
from bson.raw_bson import RawBSONDocument
from pymongo.client_session import ClientSession
from pymongo.database import Database

from tools.soak.log import Document

AT_ONCE = 1000
NO_VIEW = {"type": {"$ne": "view"}, "name": {"$ne": "system.views"}}
"""Workers make the views again."""

RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)


class Backup:
    """What a database held at one moment; a file in `folder` for each collection."""

    def __init__(self, database: Database[Document], folder: Path) -> None:
        self._database = database
        self._folder = folder
        self._options: dict[str, Document] = {}
        self._indexes: dict[str, list[Document]] = {}

    def take(self) -> None:
        """Copies the database while it is in use, as `mongodump --oplog` does."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._database.client.start_session(snapshot=True) as session:
            for one in self._database.list_collections(filter=NO_VIEW):
                name = one["name"]
                self._options[name] = one["options"]
                self._indexes[name] = [dict(i) for i in self._database[name].list_indexes()]
                self._copy(name, session)

    def _copy(self, name: str, session: ClientSession) -> None:
        with self._file(name).open("wb") as file:
            # PyMongo's annotations take a batch, which is bytes, for a document.
            for batch in self._database[name].find_raw_batches(session=session):
                file.write(cast(bytes, batch))

    def restore(self, *, anew: bool) -> None:
        """Sets the database back to it: as `mongorestore` into a dropped database does, with each
        collection made `anew`; or as files of a snapshot do, in the same ones."""
        there = set(self._database.list_collection_names(filter=NO_VIEW))
        for name in there if anew else there - self._options.keys():
            self._database.drop_collection(name)
        for name in self._options:
            if anew or name not in there:
                self._make(name)
            self._database[name].delete_many({})
            documents = self._documents(name)
            while some := list(islice(documents, AT_ONCE)):
                self._database[name].insert_many(some)

    def _make(self, name: str) -> None:
        self._database.create_collection(name, **self._options[name])
        if self._indexes[name]:
            self._database.command("createIndexes", name, indexes=self._indexes[name])

    def _documents(self, name: str) -> Iterator[RawBSONDocument]:
        with self._file(name).open("rb") as file:
            yield from decode_file_iter(file, RAW)

    def _file(self, name: str) -> Path:
        return self._folder / f"{name.replace('/', '-')}.bson"
