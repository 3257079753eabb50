#!/usr/bin/env python3
"""Proves a store of charms, written from docs/format.md alone. Nothing but Python's standard library.

    verify.py INDEX.DB           every space, and the host's chain over all
    verify.py INDEX.DB DID       one space, with nothing but its DID

Prints a line for each space that is proved; exit code 1, and what is wrong, for the first that is not."""

import hashlib
import sqlite3
import sys

# Ed25519 verification, RFC 8032 section 5.1.7; points in extended coordinates (section 5.1.4).
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)
ZERO = (0, 1, 1, 0)

def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P

def times(n, p):
    q = ZERO
    while n:
        if n & 1:
            q = add(q, p)
        p, n = add(p, p), n >> 1
    return q

def same(p, q):
    return (p[0] * q[2] - q[0] * p[2]) % P == 0 and (p[1] * q[2] - q[1] * p[2]) % P == 0

def point(raw):
    """A point from its 32 bytes; none when they are no point, or another spelling of one."""
    number = int.from_bytes(raw, "little")
    sign, y = number >> 255, number & (1 << 255) - 1
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P

BASE = point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))

def holds(key, message, signature):
    """Whether the key has signed the message; keys and points of small order are refused."""
    a, r, s = point(key), point(signature[:32]), int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or a is None or r is None or s >= L:
        return False
    if same(times(8, a), ZERO) or same(times(8, r), ZERO):
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    return same(times(s, BASE), add(r, times(k, a)))

BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

def did(key):
    number, text = int.from_bytes(b"\xed\x01" + key, "big"), ""
    while number:
        number, text = number // 58, BASE58[number % 58] + text
    return "did:key:z" + text

class Wrong(SystemExit): pass
def must(condition, why):
    if not condition:
        raise Wrong(why)

class Reader:
    """Reads the building blocks of a record."""

    def __init__(self, raw):
        self.raw, self.at = raw, 0

    def take(self, count):
        must(self.at + count <= len(self.raw), "record is cut")
        self.at += count
        return self.raw[self.at - count : self.at]

    def varint(self):
        number, shift = 0, 0
        while True:
            byte = self.take(1)[0]
            must(byte or not shift, "a number with a zero in front")
            number, shift = number | (byte & 127) << shift, shift + 7
            if byte < 128:
                must(number < 1 << 64, "a number over 64 bits")
                return number

    def flag(self):
        byte = self.take(1)[0]
        must(byte < 2, "neither 0 nor 1")
        return byte == 1

    key = hash = lambda self: self.take(32)
    id = lambda self: self.take(16)
    bytes = lambda self: self.take(self.varint())
    text = lambda self: self.bytes().decode("utf-8")
    maybe = lambda self, read: read() if self.flag() else None
    list = lambda self, read: [read() for _ in range(self.varint())]
    write = lambda self: (self.text(), self.varint(), self.list(self.edit))
    mark = lambda self: (self.id(), self.hash())
    cut = lambda self: (self.key(), self.varint(), self.varint(), self.varint(), self.varint())
    sent = lambda self: (self.event(), self.maybe(lambda: self.under(9)))
    ran = lambda self: (self.varint(), self.varint(), self.varint())
    wait = lambda self: (self.list(self.id), self.under(4), self.varint())
    edit = lambda self: (self.list(lambda: [self.text, self.varint][self.flag()]()), self.maybe(self.bytes))
    progress = lambda self: (self.hash(), self.varint(), self.varint(), self.varint(), self.varint(), self.ran(),
        self.wait(), self.hash(), self.varint(), self.flag(), self.varint(), self.maybe(self.varint))

    def under(self, count):
        must((number := self.varint()) < count, "a choice that is none")
        return number

    def event(self):
        return {"id": self.id(), "sender": self.key(), "to": self.key(), "stream": self.text(), "payload": self.bytes(),
            "on_commit": self.maybe(lambda: (self.text(), self.bytes())), "receipt_of": self.maybe(self.id),
            "supplied": self.flag(), "awaited": self.flag(), "times": (self.maybe(self.varint), self.maybe(self.varint))}

    def turn(self):
        return {"sender": self.key(), "stream": self.text(),
            "receipt": (self.id(), self.under(9), self.maybe(self.varint), self.maybe(self.text)),
            "writes": self.list(self.write), "sends": self.list(self.sent),
            "dropped": self.maybe(self.id), "ran": self.maybe(self.ran)}

    def segment(self):
        return {"event": self.id(), "sender": self.key(), "stream": self.text(), "number": self.varint(),
            "writes": self.list(self.write), "sends": self.list(self.sent), "ran": self.ran(),
            "wait": self.wait(), "recording": self.hash()}

    def checkpoint(self):
        return {"seq": self.varint(), "name": self.text(), "paused": self.flag(),
            "installed": self.maybe(lambda: (self.hash(), self.hash())),
            "rights": self.list(lambda: (self.key(), self.bytes())), "letters_dropped": self.varint(),
            "cells": self.hash(), "waiting": self.list(self.mark), "dead": self.list(self.mark),
            "sent": self.list(lambda: (self.key(), self.mark())),
            "turns": self.list(lambda: (self.id(), self.progress(), self.hash()))}

    def body(self):
        kind = self.varint()
        read = [
            self.text,
            lambda: (self.key(), self.bytes(), self.maybe(self.bytes)),
            lambda: None,
            lambda: (self.key(), self.maybe(self.bytes)),
            self.flag,
            self.event,
            lambda: (self.list(self.id), self.maybe(self.event)),
            self.turn,
            self.checkpoint,
            lambda: (self.varint(), self.hash(), self.varint(), self.hash(), self.list(self.cut)),
            lambda: self.list(self.write),
            self.segment,
            lambda: (self.id(), self.key(), self.text(), self.varint(), self.varint()),
            lambda: (self.id(), self.key(), self.text(), self.hash()),
        ]
        must(kind < len(read), "a body that is none")
        return kind, read[kind]()

    def record(self):
        must(self.take(1) == b"\x07", "record is of another version")
        record = {"space": self.key(), "seq": self.varint(), "previous": self.take(32), "time": self.varint()}
        record["kind"], record["body"] = self.body()
        must(self.at == len(self.raw), "bytes after the record")
        return record
be64 = lambda number: number.to_bytes(8, "big")
sha256 = lambda *parts: hashlib.sha256(b"".join(parts)).digest()
record_hash = lambda raw: sha256(b"charm commit v7\0", raw)

def prove_space(key, rows, signed, signature):
    """Proves a space from its first record that is there; returns the number of its last, and how many its own key covers."""
    head, heads, last, points = bytes(32), {}, 0, set()
    for seq, raw in rows:
        record = Reader(raw).record()
        if not heads and seq > 1:
            # What is before has gone: a checkpoint has to stand for it.
            last, head = seq - 1, record["previous"]
        must(seq == last + 1 and record["seq"] == seq, f"commit {last + 1}: number out of sequence")
        must(record["space"] == key, f"commit {seq}: made for another DID")
        must(record["previous"] == head, f"commit {seq}: does not continue the one before it")
        must((record["kind"] == 0) == (seq == 1), f"commit {seq}: a space begins with its name")
        last, head = seq, heads.setdefault(seq, record_hash(raw))
        if record["kind"] == 8:
            points.add((record["body"]["seq"], seq))
    if signature is not None:
        must(signed in heads, f"commit {signed}: was signed and is not there")
        message = b"charm head v1\0" + key + be64(signed) + heads[signed]
        must(holds(key, message, signature), f"commit {signed}: signature is not by this DID")
    gone = min(heads, default=1) - 1
    stands = gone == 0 or any(seq == gone and at <= (signed or 0) for seq, at in points)
    must(stands, f"commit {gone}: no signed checkpoint stands for what has gone")
    return last, signed or 0

def prove_host(key, rows):
    """Proves the chain of entries and the host's seals, from where all is there; returns how many seals there are."""
    rows = [(*row, Reader(row[1]).record()) for row in rows]
    said = [record["body"] for *_, record in rows if record["kind"] == 9 and record["space"] == key]
    whole, end, position, before, _ = said[-1] if said else (0, bytes(32), 0, None, None)
    heads, number, sealed, seals = {}, whole, True, 0
    for order, raw, at, taken, late, seal, record in rows:
        kind, body, space = record["kind"], record["body"], record["space"]
        if order <= whole:
            heads[space] = record["seq"], record_hash(raw)
            continue
        heads.setdefault(space, (record["seq"] - 1, record["previous"]) if record["seq"] > 1 else None)
        number += 1
        must(order == number, f"host commit {number}: number out of sequence")
        waits = 1 if kind == 5 or (kind == 6 and body[1]) else 0
        waits += sum(refused is None for _, refused in body["sends"]) if kind in (7, 11) else 0
        position += waits
        must(at == position, f"host commit {number}: positions are not in the order of sends")
        must((kind in (7, 11, 12, 13)) == (taken is not None), f"host commit {number}: a place in the queue for no event")
        end = sha256(b"charm entry v1\0", end, be64(order), be64(at), be64(taken or 0), bytes([late or 0]), record_hash(raw))
        if sealed := seal is not None:
            must(holds(key, b"charm seal v1\0" + key + be64(order) + end, seal), f"host commit {number}: seal does not hold")
            seals += 1
    must(sealed, "the last commit is not sealed by the host")
    there = sha256(b"charm heads v1\0", *[space + be64(head[0]) + head[1] for space, head in sorted(heads.items()) if head])
    must(not said or there == before, f"host commit {whole}: the heads of spaces are not those that were sealed")
    return seals

def main(path, only=None):
    store = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    spaces = store.execute("SELECT cid, did, name, signed, signature FROM space ORDER BY cid").fetchall()
    found = 0
    for cid, key, name, signed, signature in spaces:
        if only in (None, did(key)):
            found += 1
            rows = store.execute("SELECT seq, record FROM log WHERE cid = ? ORDER BY seq", [cid])
            try:
                commits, covered = prove_space(key, rows, signed, signature)
            except Wrong as why:
                sys.exit(f"{name} {did(key)}: {why}")
            print(f"{name} {did(key)}: {commits} commits, signed up to {covered}")
    must(found or only is None, f"no space {only}")
    if only is None:
        host = next(key for _, key, name, _, _ in spaces if name == "@host")
        rows = store.execute("SELECT g, record, position, taken, late, seal FROM log ORDER BY g")
        print(f"host {did(host)}: {prove_host(host, rows)} seals")

if __name__ == "__main__":
    main(*sys.argv[1:])
