"""A server of files on this machine, for tests of what is fetched: it can go on from a byte, and hang up."""

from __future__ import annotations

import hashlib
import io
import re
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONTENT = bytes(range(256)) * 800
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"


class Server:
    """What it holds by path, what it can, and what it was asked: paths, and ranges if any.

    ranges   whether it can go on from the middle of a file
    version  the ETag of all files, if it says one
    cut      after how many bytes of a file it hangs up, if it does
    """

    def __init__(self, address: str):
        self.address, self.files, self.asked = address, {"/file": CONTENT}, []
        self.ranges, self.cut, self.version = True, None, '"one"'

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted, known = handler.headers.get("Range"), handler.headers.get("If-Range")
        self.asked.append((handler.path, wanted))
        if (content := self.files.get(handler.path)) is None:
            handler.send_error(404)
            return
        start = int(re.search(r"\d+", wanted)[0]) if wanted and self.ranges and known == self.version else 0
        if start >= len(content):
            handler.send_error(416)
            return
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(content) - start))
        if self.version:
            handler.send_header("ETag", self.version)
        handler.end_headers()
        handler.wfile.write(content[start : None if self.cut is None else self.cut])


@contextmanager
def serve() -> Iterator[Server]:
    """A server on this machine, which holds CONTENT under /file."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            own.answer(self)

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        own = Server(f"http://127.0.0.1:{http.server_port}/")
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield own
        finally:
            http.shutdown()
            thread.join()


def zipped(members: dict[str, bytes]) -> bytes:
    with zipfile.ZipFile(content := io.BytesIO(), "w") as archive:
        for name, own in members.items():
            archive.writestr(name, own)
    return content.getvalue()
