"""A scripted OpenAI-compatible server on loopback: it answers each question by a function, well or badly."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def chat_completion(content=None, calls=(), finish="stop", **message):
    """A response's body; calls are (name, arguments) as they are put into the body."""
    tool_calls = [{"id": f"c{k}", "type": "function", "function": {"name": n, "arguments": a}} for k, (n, a) in
                  enumerate(calls)]  # fmt: skip
    return {
        "id": "1", "object": "chat.completion", "created": 0, "model": "served", "system_fingerprint": "fp",
        "choices": [{"index": 0, "finish_reason": finish,
                     "message": {"role": "assistant", "content": content, "tool_calls": tool_calls} | message}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14},
    }  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    """Hands each request to the server's script, which returns (status, body) or does the sending itself."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.send(200, {"object": "list", "data": [{"id": "served", "object": "model", "created": 0, "owned_by": "x"}]})

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append(request)
        if (answer := self.server.script(request, self)) is not None:
            self.send(*answer)

    def send(self, status, body, headers=()):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in (("Content-Type", "application/json"), ("Content-Length", len(content)), *headers):
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def serving(script):
    """A server whose `script(request, handler)` answers; yields it with `url` and the received `requests`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.script, server.requests, server.lock = script, [], threading.Lock()
    server.url = f"http://127.0.0.1:{server.server_port}/v1"
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
