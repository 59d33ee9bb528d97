"""Photos, comments and idempotency keys, shared by every instance through one directory.

    GALLERY_DATA/
      gallery.sqlite3     rows (WAL); every write is one short BEGIN IMMEDIATE transaction
      photos/ab/abcd…     the bytes, named by their SHA-256: written aside, flushed, renamed
      refused.log         one byte per request that reached an instance that was not ready

The bytes are in place before the row that names them. A crash between the two leaves a file without a row, which the
next upload of the same photo uses again; it never leaves a row without a file.

All calls block: call them from a thread. Each thread has a connection of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from examples.gallery.problems import Problem
from examples.gallery.validate import PhotoFacts

BUSY_TIMEOUT_MS = 5_000
IDEMPOTENCY_DAYS_MAX = 2
COMMENTS_PER_PHOTO_MAX = 5_000
REFUSED_LOG_BYTES_MAX = 1_000_000
STRAY_FILE_AGE_SECONDS = 3_600

SCHEMA = """
CREATE TABLE IF NOT EXISTS photo (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, media_type TEXT NOT NULL,
  width INTEGER NOT NULL, height INTEGER NOT NULL, bytes INTEGER NOT NULL, sha256 TEXT NOT NULL,
  created_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS comment (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, photo_id TEXT NOT NULL REFERENCES photo(id),
  author TEXT NOT NULL, text TEXT NOT NULL, created_at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS comment_of_photo ON comment(photo_id, seq);
CREATE TABLE IF NOT EXISTS idempotency (
  scope TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL, object_id TEXT NOT NULL, created_at REAL NOT NULL,
  PRIMARY KEY (scope, key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS idempotency_age ON idempotency(created_at);
"""


@dataclass(frozen=True, slots=True)
class Photo:
    id: str
    title: str
    media_type: str
    width: int
    height: int
    bytes: int
    sha256: str
    created_at: float


@dataclass(frozen=True, slots=True)
class Comment:
    id: str
    photo_id: str
    author: str
    text: str
    created_at: float


_PHOTOS = "SELECT id, title, media_type, width, height, bytes, sha256, created_at FROM photo"
_COMMENTS = "SELECT id, photo_id, author, text, created_at FROM comment"
_NEW_PHOTO = (
    "INSERT INTO photo (id, title, media_type, width, height, bytes, sha256, created_at) VALUES (?,?,?,?,?,?,?,?)"
)
_NEW_COMMENT = "INSERT INTO comment (id, photo_id, author, text, created_at) VALUES (?,?,?,?,?)"


class Store:
    def __init__(self, root: Path, *, photos_max: int = 20_000) -> None:
        self._root, self._photos_max = root, photos_max
        self._threads = threading.local()

    def open(self) -> None:
        """Makes what is missing. Any number of processes may call it at once."""
        (self._root / "photos").mkdir(parents=True, exist_ok=True)
        with _alone(self._root / "open.lock"):  # switching to WAL ignores the busy timeout: one at a time
            db = self._connection()
            db.execute("PRAGMA journal_mode=WAL")
            db.executescript(SCHEMA)
            oldest = time.time() - IDEMPOTENCY_DAYS_MAX * 86_400  # the seed's keys stay: it may run again in a year
            db.execute("DELETE FROM idempotency WHERE created_at < ? AND key NOT LIKE 'seed/%'", (oldest,))
            self._remove_stray_files()

    # -- photos

    def add_photo(self, data: bytes, facts: PhotoFacts, title: str, key: str | None) -> tuple[Photo, bool]:
        """The photo, and whether this call made it. Raises Problem 422 when `key` was used for another photo."""
        digest = hashlib.sha256(data).hexdigest()
        fingerprint = hashlib.sha256(f"{digest}\0{title}".encode()).hexdigest()
        self._write_bytes(digest, data)
        photo = Photo(
            uuid.uuid4().hex, title, facts.media_type, facts.width, facts.height, len(data), digest, time.time()
        )
        with self._transaction() as db:
            if earlier := _replayed(db, "photos", key, fingerprint):
                return _photo(db, earlier), False
            if db.execute("SELECT count(*) FROM photo").fetchone()[0] >= self._photos_max:
                raise Problem(507, "gallery-full", f"This gallery keeps at most {self._photos_max} photos.")
            db.execute(_NEW_PHOTO, tuple(asdict(photo).values()))
            _remember(db, "photos", key, fingerprint, photo.id, photo.created_at)
        return photo, True

    def get_photo(self, photo_id: str) -> Photo:
        return _photo(self._connection(), photo_id)

    def get_bytes(self, photo: Photo) -> bytes:
        return self._path(photo.sha256).read_bytes()

    def list_photos(self, limit: int, before: str | None = None) -> list[Photo]:
        """Newest first, from the photo `before` on."""
        rows = self._connection().execute(
            _PHOTOS + " WHERE ? IS NULL OR seq < (SELECT seq FROM photo WHERE id = ?) ORDER BY seq DESC LIMIT ?",  # noqa: S608
            (before, before, limit),
        )
        return [Photo(*row) for row in rows]

    def count_photos(self) -> int:
        return int(self._connection().execute("SELECT count(*) FROM photo").fetchone()[0])

    # -- comments

    def add_comment(self, photo_id: str, author: str, text: str, key: str | None) -> tuple[Comment, bool]:
        fingerprint = hashlib.sha256(f"{author}\0{text}".encode()).hexdigest()
        scope = f"comments/{photo_id}"
        comment = Comment(uuid.uuid4().hex, photo_id, author, text, time.time())
        with self._transaction() as db:
            _photo(db, photo_id)
            if earlier := _replayed(db, scope, key, fingerprint):
                row = db.execute(_COMMENTS + " WHERE id = ?", (earlier,)).fetchone()
                return Comment(*row), False
            count = db.execute("SELECT count(*) FROM comment WHERE photo_id = ?", (photo_id,)).fetchone()[0]
            if count >= COMMENTS_PER_PHOTO_MAX:
                raise Problem(507, "too-many-comments", f"At most {COMMENTS_PER_PHOTO_MAX} comments on a photo.")
            db.execute(_NEW_COMMENT, tuple(asdict(comment).values()))
            _remember(db, scope, key, fingerprint, comment.id, comment.created_at)
        return comment, True

    def list_comments(self, photo_id: str, limit: int) -> list[Comment]:
        """The newest `limit` comments, oldest first."""
        rows = self._connection().execute(
            _COMMENTS + " WHERE photo_id = ? ORDER BY seq DESC LIMIT ?", (photo_id, limit)
        )
        return [Comment(*row) for row in rows][::-1]

    # -- requests that should never have come

    def note_refused(self) -> None:
        """Counts, for all instances and over their deaths, a request that reached an instance that was not ready."""
        with contextlib.suppress(OSError), open(self._root / "refused.log", "ab") as log:
            if log.tell() < REFUSED_LOG_BYTES_MAX:
                log.write(b".")

    def count_refused(self) -> int:
        try:
            return (self._root / "refused.log").stat().st_size
        except FileNotFoundError:
            return 0

    # -- below: files and connections

    def _path(self, digest: str) -> Path:
        return self._root / "photos" / digest[:2] / digest

    def _write_bytes(self, digest: str, data: bytes) -> None:
        path = self._path(digest)
        if path.exists():
            return
        path.parent.mkdir(exist_ok=True)
        aside = path.with_name(f".{uuid.uuid4().hex}.part")
        try:
            with open(aside, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        for folder in (path.parent, path.parent.parent):  # the rename, and the folder's own name
            _flush_folder(folder)

    def _remove_stray_files(self) -> None:
        """What a killed upload left. Old files only: another instance may be writing right now."""
        limit = time.time() - STRAY_FILE_AGE_SECONDS
        for part in (self._root / "photos").glob("*/.*.part"):
            with contextlib.suppress(FileNotFoundError):
                if part.stat().st_mtime < limit:
                    part.unlink()

    def _connection(self) -> sqlite3.Connection:
        db: sqlite3.Connection | None = getattr(self._threads, "db", None)
        if db is None:
            db = sqlite3.connect(self._root / "gallery.sqlite3", timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None)
            db.execute("PRAGMA synchronous=FULL")  # an upload we acknowledged survives a power cut
            db.execute("PRAGMA foreign_keys=ON")
            self._threads.db = db
        return db

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        db = self._connection()
        db.execute("BEGIN IMMEDIATE")  # takes the write lock first, so that it waits here and never fails half way
        try:
            yield db
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise


def _photo(db: sqlite3.Connection, photo_id: str) -> Photo:
    row = db.execute(_PHOTOS + " WHERE id = ?", (photo_id,)).fetchone()
    if row is None:
        raise Problem(404, "no-such-photo", f"There is no photo {photo_id[:64]!r}.")
    return Photo(*row)


def _replayed(db: sqlite3.Connection, scope: str, key: str | None, fingerprint: str) -> str | None:
    """The object that `key` made earlier, if any."""
    if key is None:
        return None
    row = db.execute(
        "SELECT fingerprint, object_id FROM idempotency WHERE scope = ? AND key = ?", (scope, key)
    ).fetchone()
    if row is None:
        return None
    if row[0] != fingerprint:
        raise Problem(422, "idempotency-key-reused", "This Idempotency-Key was used before with another body.")
    return str(row[1])


def _remember(
    db: sqlite3.Connection, scope: str, key: str | None, fingerprint: str, object_id: str, now: float
) -> None:
    if key is not None:
        db.execute("INSERT INTO idempotency VALUES (?,?,?,?,?)", (scope, key, fingerprint, object_id, now))


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time; the kernel lets go when the holder dies."""
    with open(path, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _flush_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
