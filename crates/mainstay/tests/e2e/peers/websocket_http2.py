"""A WebSocket over HTTP/2 (RFC 8441), frame by frame: HOST PORT CA. Beside it, plain requests over the same connection."""

import os
import socket
import ssl
import struct
import sys

import h2.config
import h2.connection
import h2.events
import h2.settings

host, port, ca = sys.argv[1], int(sys.argv[2]), sys.argv[3]
context = ssl.create_default_context(cafile=ca)
context.set_alpn_protocols(["h2"])
wire = context.wrap_socket(socket.create_connection((host, port), 30), server_hostname="shop.example.com")
assert wire.selected_alpn_protocol() == "h2"
http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
http.initiate_connection()
events = []


def send():
    wire.sendall(http.data_to_send())


def wait(kind, stream):
    """The next event of a kind for a stream; None for the connection."""
    while True:
        for event in events:
            if isinstance(event, kind) and getattr(event, "stream_id", None) == stream:
                events.remove(event)
                return event
            assert not isinstance(event, (h2.events.StreamReset, h2.events.ConnectionTerminated)), event
        data = wire.recv(65536)
        assert data, "the connection was closed"
        events.extend(http.receive_data(data))
        send()


def headers(stream, method, path, *more, end=False):
    base = [(":method", method), (":scheme", "https"), (":path", path), (":authority", "shop.example.com")]
    http.send_headers(stream, base + list(more), end_stream=end)
    send()


def masked(payload, opcode=2):
    """A frame of RFC 6455 as clients send it."""
    key = os.urandom(4)
    length = len(payload)
    if length < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | length)
    else:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, length)
    return head + key + bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))


def echoed(stream, sent):
    """The server of this test sends back what comes, as it is."""
    for at in range(0, len(sent), 16000):
        http.send_data(stream, sent[at:at + 16000])
    send()
    back = b""
    while len(back) < len(sent):
        event = wait(h2.events.DataReceived, stream)
        http.acknowledge_received_data(event.flow_controlled_length, stream)
        send()
        back += event.data
    assert back == sent


send()
wait(h2.events.RemoteSettingsChanged, None)
assert http.remote_settings.enable_connect_protocol == 1
socket_of = (":protocol", "websocket"), ("sec-websocket-version", "13"), ("origin", "https://shop.example.com")
headers(1, "CONNECT", "/socket", *socket_of)
head = dict(wait(h2.events.ResponseReceived, 1).headers)
assert head[":status"] == "200", head
assert "sec-websocket-accept" not in head and "connection" not in head and "upgrade" not in head, head
echoed(1, masked(b"hello"))
headers(3, "GET", "/page", end=True)
assert dict(wait(h2.events.ResponseReceived, 3).headers)[":status"] == "200"
headers(5, "CONNECT", "/socket", *socket_of)
assert dict(wait(h2.events.ResponseReceived, 5).headers)[":status"] == "200"
echoed(5, masked(os.urandom(30000)))
echoed(1, masked(os.urandom(30000)))
print("open", flush=True)
assert sys.stdin.readline().strip() == "on"
echoed(1, masked(b"still here"))
http.end_stream(5)
send()
wait(h2.events.StreamEnded, 5)
echoed(1, masked(b"the other one goes on"))
print("done", flush=True)
