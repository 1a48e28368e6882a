"""A local HTTP server that serves bytes badly, as it is told."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer(ThreadingHTTPServer):
    """Serves `files` (path -> bytes); each request follows the next entry of `plan`, an empty plan is good manners.

    Entries: `ok`; `cut N` sends N bytes and hangs up; `stall N` sends N bytes and then nothing; `ignore` sends the
    whole file whatever the range; `status N`; `to URL` redirects; `shifted` answers a range with the one after it;
    `unsized` sends no length; `chunked N` sends a chunk of N bytes and hangs up before the end; `html` is a log-in
    page. `asked` holds the headers of each request.
    """

    daemon_threads = True

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.plan, self.asked, self.etag = files, [], [], '"one"'
        self.closing = threading.Event()

    def url(self, path="/a.tar"):
        return f"http://127.0.0.1:{self.server_address[1]}{path}"

    def handle_error(self, request, client_address):  # clients that hang up are what is tested
        pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *words):
        pass

    def do_GET(self):
        server = self.server
        server.asked.append(dict(self.headers))
        word, _, value = (server.plan.pop(0) if server.plan else "ok").partition(" ")
        body = server.files.get(self.path)
        if word == "status" or body is None:
            return self.answer(int(value or 404), b"sorry", {})
        if word == "to":
            return self.answer(302, b"", {"Location": value})
        if word == "html":
            return self.answer(200, b"<html>log in</html>", {"Content-Type": "text/html; charset=utf-8"})
        start = self.start(word)
        if start >= len(body) and start:
            return self.answer(416, b"", {"Content-Range": f"bytes */{len(body)}"})
        headers = {"ETag": server.etag} if server.etag else {}
        if start:
            first = start + (word == "shifted")
            headers["Content-Range"] = f"bytes {first}-{len(body) - 1}/{len(body)}"
        most = int(value) if value else None
        self.answer(206 if start else 200, body[start:], headers, word, most)

    def start(self, word):
        wanted = self.headers["Range"]
        unchanged = self.headers["If-Range"] in (None, self.server.etag)
        return int(wanted[6:-1]) if wanted and unchanged and word != "ignore" else 0

    def answer(self, status, body, headers, word="ok", most=None):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if word == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
            body, most = b"%x\r\n%s\r\n" % (most, body[:most]), None
        elif word != "unsized":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:most])
        self.wfile.flush()
        if word == "stall":
            self.server.closing.wait()
        self.close_connection = word in ("cut", "stall", "chunked", "unsized")


@contextmanager
def serving(files):
    """Run a FileServer in a thread."""
    server = FileServer(files)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
