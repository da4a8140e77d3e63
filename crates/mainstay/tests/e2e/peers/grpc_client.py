"""A client of gRPC that calls the servers of grpc_server.py through Mainstay: ADDRESS [CA]. It goes on when it is told a line."""

import itertools
import sys
import threading
import time

import grpc

PATIENCE = 30

address = sys.argv[1]
options = (("grpc.max_receive_message_length", 1 << 24), ("grpc.max_send_message_length", 1 << 24))
if len(sys.argv) > 2:
    with open(sys.argv[2], "rb") as ca:
        channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(ca.read()), options)
else:
    channel = grpc.insecure_channel(address, options)


def call(shape, method):
    return getattr(channel, shape)("/test.Peer/" + method)


say, order, orders = call("unary_unary", "Say"), call("unary_unary", "Order"), call("unary_unary", "Orders")
fail, wait = call("unary_unary", "Fail"), call("unary_unary", "Wait")
many, half = call("unary_stream", "Many"), call("unary_stream", "Half")
total, chat = call("stream_unary", "Total"), call("stream_stream", "Chat")


def told(word):
    line = sys.stdin.readline().strip()
    assert line == word, line


def fails(act, code):
    try:
        answer = act()
    except grpc.RpcError as error:
        assert error.code() == code, (error.code(), error.details())
        return error
    raise AssertionError(f"it answered {answer!r}")


class Pipe:
    """Messages that are sent one by one, each when it is asked for."""

    def __init__(self):
        self.given, self.lock = [], threading.Condition()

    def __iter__(self):
        return self

    def __next__(self):
        with self.lock:
            while not self.given:
                self.lock.wait()
            message = self.given.pop(0)
        if message is None:
            raise StopIteration
        return message

    def put(self, message):
        with self.lock:
            self.given.append(message)
            self.lock.notify()


# A call with metadata in both directions, before and after, in text and in bytes.
answer, met = say.with_call(b"hello", timeout=PATIENCE, metadata=(("x-sent-bin", b"\x00\xfe"),))
before, after = dict(met.initial_metadata()), dict(met.trailing_metadata())
name = before["x-before"]
assert answer == name.encode() + b" hello", answer
assert before["x-came-bin"] == b"\x00\xfe", before
assert (after["x-after"], after["x-after-bin"]) == (name, b"\x00\xff"), after
assert met.code() == grpc.StatusCode.OK
# Nothing, and more than any window.
assert say(b"", timeout=PATIENCE) in (b"a ", b"b ")
large = bytes(range(256)) * 12_000
assert say(large, timeout=PATIENCE)[2:] == large
# A status other than OK, with its words and its metadata.
error = fails(lambda: fail(b"x", timeout=PATIENCE), grpc.StatusCode.NOT_FOUND)
assert error.details() == "no such thing: \u00e4 100 %", error.details()
assert dict(error.trailing_metadata())["x-after"] in ("a", "b")
fails(lambda: call("unary_unary", "Nothing")(b"", timeout=PATIENCE), grpc.StatusCode.UNIMPLEMENTED)
# Streams one way, the other, and both.
assert [int(m) for m in many(b"3000", timeout=PATIENCE)] == list(range(3000))
assert list(many(b"0", timeout=PATIENCE)) == []
assert total((b"x" * n for n in range(2000)), timeout=PATIENCE) == b"%d" % sum(range(2000))
seen = []


def read_half():
    for message in half(b"", timeout=PATIENCE):
        seen.append(message)


error = fails(read_half, grpc.StatusCode.DATA_LOSS)
assert (seen, error.details()) == ([b"one", b"two"], "the rest is lost"), (seen, error.details())
pipe = Pipe()
talk = chat(pipe, timeout=PATIENCE)
for number in range(20):
    # Each is answered while the request goes on.
    pipe.put(b"%d" % number)
    assert next(talk)[2:] == b"%d" % number
pipe.put(None)
assert list(talk) == [] and talk.code() == grpc.StatusCode.OK
# A deadline is the caller's, and so is giving up: the servers hear of both.


def until_waiting(enough):
    """How many calls of Wait began and were given up, when that is enough. Asked of both servers, which take turns."""
    end = time.monotonic() + PATIENCE
    while True:
        seen = dict(call("unary_unary", "Waiting")(b"", timeout=PATIENCE).split(b" ", 1) for _ in range(6))
        counts = [[int(n) for n in counts.split()] for counts in seen.values()]
        begun, ended = (sum(column) for column in zip(*counts))
        if enough(begun, ended):
            return begun, ended
        assert time.monotonic() < end, seen
        time.sleep(0.02)


begun, patience = 0, 0.25
while begun == 0:
    # On a busy machine a deadline can pass before a server has begun, which tells nothing: then a longer one is tried.
    patience *= 2
    assert patience < PATIENCE, "no server begins"
    fails(lambda: wait(b"", timeout=patience), grpc.StatusCode.DEADLINE_EXCEEDED)
    begun, _ = until_waiting(lambda begun, ended: begun == ended)
given_up = wait.future(b"", timeout=PATIENCE)
until_waiting(lambda now, ended: (now, ended) == (begun + 1, begun))
given_up.cancel()
until_waiting(lambda now, ended: (now, ended) == (begun + 1, begun + 1))
print("calls", flush=True)

# A server dies in the middle of a call: that call ends with a status, and the next ones are answered by the other one.
pipe = Pipe()
talk = chat(pipe, timeout=PATIENCE)
pipe.put(b"hello")
print("served by", next(talk)[:1].decode(), flush=True)
try:
    next(talk)
    raise AssertionError("the server was to be killed")
except grpc.RpcError as error:
    assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.CANCELLED), error
    pipe.put(None)
print("ended", talk.code().name, flush=True)
told("on")
by = {order(b"order %d" % number, timeout=PATIENCE) for number in range(100)}
print("answered by", b" ".join(sorted(by)).decode(), flush=True)
print("orders", orders(b"", timeout=PATIENCE).decode(), flush=True)

# Call after call, several at a time, until it is told to end: a new Mainstay takes over in between.
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), over.set()), daemon=True).start()
numbers = itertools.count(100)
failures = []


def calls():
    try:
        while not over.is_set():
            order(b"order %d" % next(numbers), timeout=PATIENCE)
    except grpc.RpcError as error:
        failures.append(error)


threads = [threading.Thread(target=calls) for _ in range(8)]
for thread in threads:
    thread.start()
print("on", flush=True)
for thread in threads:
    thread.join()
assert not failures, failures
print("sent", next(numbers), flush=True)
print("orders", orders(b"", timeout=PATIENCE).decode(), flush=True)
