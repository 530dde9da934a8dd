"""The least of a Workload API client over a socket that is connected already, whoever connected it: no library would
take such a socket."""

import select
import struct
import time

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4


class Refused(Exception):
    """The call ended without an SVID; the text is the trailers' printable part."""


def _frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _literal(name, value):
    """A header without indexing and without Huffman (RFC 7541, 6.2.2)."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def request():
    """The bytes of a FetchX509SVID call, from the preface on."""
    headers = b"".join(_literal(*h) for h in (
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/SpiffeWorkloadAPI/FetchX509SVID"), (b":authority", b"localhost"),
        (b"content-type", b"application/grpc"), (b"te", b"trailers"), (b"workload.spiffe.io", b"true")))
    return (_PREFACE + _frame(_SETTINGS, 0, 0) + _frame(_HEADERS, _END_HEADERS, 1, headers) +
            _frame(_DATA, _END_STREAM, 1, bytes(5)))


def fetch(connection, timeout=30):
    """SPIFFE IDs of the first answer. Refused when the agent ends the call or the connection."""
    try:
        connection.sendall(request())
        return _first_answer(connection, time.monotonic() + timeout)
    except OSError as error:
        raise Refused(str(error)) from None


def _first_answer(connection, end):
    buffer, message = b"", b""
    while True:
        while len(buffer) < 9 or len(buffer) < 9 + int.from_bytes(buffer[:3], "big"):
            if not select.select([connection], [], [], max(0, end - time.monotonic()))[0]:
                raise Refused("no answer in time")
            received = connection.recv(65536)
            if not received:
                raise Refused("the connection was closed")
            buffer += received
        size, kind, flags = int.from_bytes(buffer[:3], "big"), buffer[3], buffer[4]
        payload, buffer = buffer[9:9 + size], buffer[9 + size:]
        if kind == _SETTINGS and not flags & _ACK:
            connection.sendall(_frame(_SETTINGS, _ACK, 0))
        elif kind == _PING and not flags & _ACK:
            connection.sendall(_frame(_PING, _ACK, 0, payload))
        elif kind == _DATA:
            message += payload
            if len(message) >= 5 and len(message) >= 5 + int.from_bytes(message[1:5], "big"):
                return sorted(_string(svid, 1) for svid in _messages(message[5:], 1))
        elif kind in (_RST, _GOAWAY) or (kind == _HEADERS and flags & _END_STREAM):
            raise Refused("".join(chr(b) if 32 <= b < 127 else " " for b in payload).strip())


def _fields(data):
    """(number, bytes) of the length-delimited fields of a protobuf message."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 2:
            size = varint()
            yield key >> 3, data[at:at + size]
            at += size
        else:
            varint()


def _messages(data, number):
    return [value for found, value in _fields(data) if found == number]


def _string(data, number):
    return _messages(data, number)[0].decode()
