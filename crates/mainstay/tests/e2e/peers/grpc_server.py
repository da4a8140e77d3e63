"""A server of gRPC with every shape of call and a health service, for tests: NAME ADDRESS [CHAIN KEY]. Messages are plain bytes.

SIGUSR1 makes it say that it is not serving, SIGUSR2 that it is."""

import signal
import sys
import threading
from concurrent import futures

import grpc

name, address = sys.argv[1:3]
carried_out = {}
waits = {"begun": 0, "ended": 0}
# By grpc.health.v1: 1 is SERVING, 2 NOT_SERVING.
health = {"": 1, "test.Peer": 1}
lock = threading.Lock()


def say(request, context):
    """Answers with what came, its name, and metadata before and after."""
    metadata = dict(context.invocation_metadata())
    context.send_initial_metadata((("x-before", name), ("x-came-bin", metadata.get("x-sent-bin", b""))))
    context.set_trailing_metadata((("x-after", name), ("x-after-bin", b"\x00\xff")))
    return name.encode() + b" " + request


def order(request, context):
    """Counts what it carries out."""
    with lock:
        carried_out[request] = carried_out.get(request, 0) + 1
    return name.encode()


def orders(request, context):
    """How many different orders were carried out, and how many more than once."""
    with lock:
        return b"%d %d" % (len(carried_out), sum(n > 1 for n in carried_out.values()))


def fail(request, context):
    context.set_trailing_metadata((("x-after", name),))
    context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: \u00e4 100 %")


def many(request, context):
    for number in range(int(request)):
        yield b"%d" % number


def half(request, context):
    """Two messages, then a status that is none of the best."""
    yield b"one"
    yield b"two"
    context.abort(grpc.StatusCode.DATA_LOSS, "the rest is lost")


def total(requests, context):
    return b"%d" % sum(len(request) for request in requests)


def chat(requests, context):
    for request in requests:
        yield name.encode() + b" " + request


def wait(request, context):
    """Ends when the caller no longer waits."""
    over = threading.Event()
    context.add_callback(over.set)
    with lock:
        waits["begun"] += 1
    if over.wait(30):
        with lock:
            waits["ended"] += 1
    return b"%f" % (context.time_remaining() or 0)


def waiting(request, context):
    """Its name, and how many calls of Wait began and were given up."""
    with lock:
        return b"%s %d %d" % (name.encode(), waits["begun"], waits["ended"])


def check(request, context):
    """grpc.health.v1.Health/Check: a message whose field 1 is a name, answered by one whose field 1 is a state."""
    name = request[2:].decode() if request else ""
    if name not in health:
        context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
    return bytes([0x08, health[name]])


signal.signal(signal.SIGUSR1, lambda *_: health.update({"test.Peer": 2}))
signal.signal(signal.SIGUSR2, lambda *_: health.update({"test.Peer": 1}))
handlers = {
    "Say": grpc.unary_unary_rpc_method_handler(say),
    "Order": grpc.unary_unary_rpc_method_handler(order),
    "Orders": grpc.unary_unary_rpc_method_handler(orders),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Many": grpc.unary_stream_rpc_method_handler(many),
    "Half": grpc.unary_stream_rpc_method_handler(half),
    "Total": grpc.stream_unary_rpc_method_handler(total),
    "Chat": grpc.stream_stream_rpc_method_handler(chat),
    "Wait": grpc.unary_unary_rpc_method_handler(wait),
    "Waiting": grpc.unary_unary_rpc_method_handler(waiting),
}
server = grpc.server(futures.ThreadPoolExecutor(16), options=(("grpc.so_reuseport", 0),))
server.add_generic_rpc_handlers((
    grpc.method_handlers_generic_handler("test.Peer", handlers),
    grpc.method_handlers_generic_handler(
        "grpc.health.v1.Health", {"Check": grpc.unary_unary_rpc_method_handler(check)}
    ),
))
if len(sys.argv) > 3:
    with open(sys.argv[3], "rb") as chain, open(sys.argv[4], "rb") as key:
        server.add_secure_port(address, grpc.ssl_server_credentials([(key.read(), chain.read())]))
else:
    server.add_insecure_port(address)
server.start()
server.wait_for_termination()
