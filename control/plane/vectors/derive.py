#!/usr/bin/env python3
"""Derives the golden bytes in this folder from docs/audit-format.md and, of frames,
from docs/peer-protocol.md.

It shares nothing with the code: every field is written down in the order of the
documents' tables. The checksum is computed bit by bit. Run it in this folder to write the .json files again;
`tests/all/vectors.rs` compares the code with them.

A line of "hex" is bytes, a space, and what they are.
"""
import json
import pathlib

DONE, REPEATED, REFUSED, DENIED, GAP = range(5)

V4 = bytes(10) + b"\xff\xff" + bytes([192, 0, 2, 33])
V6 = bytes.fromhex("20010db8000000000000000000000007")

FIELDS = {
    "at": 1_700_000_000_123,
    "index": 17,
    "to": 0,
    "meta": 9,
    "request": 0x00112233445566778899AABBCCDDEEFF,
    "origin": 3,
    "family": 0,
    "port": 0,
    "ip": bytes(16),
    "result": DONE,
    "code": 0,
    "principal": "p:ana",
    "tenant": "acme",
    "operation": "create_namespace",
    "target": "namespace/acme/orders",
}


def row(length=None, version=1, cut=None, more=b"", **changes):
    of = {**FIELDS, **changes}
    fixed = [
        (bytes([version]), f"version {version}"),
        (bytes([of["result"]]), f"result {of['result']}"),
        (of["code"].to_bytes(2, "little"), f"code {of['code']}"),
        (of["at"].to_bytes(8, "little"), f"at {of['at']}"),
        (of["index"].to_bytes(8, "little"), f"index {of['index']}"),
        (of["to"].to_bytes(8, "little"), f"to {of['to']}"),
        (of["meta"].to_bytes(8, "little"), f"metadata version {of['meta']}"),
        (of["request"].to_bytes(16, "little"), "request"),
        (of["origin"].to_bytes(4, "little"), f"origin {of['origin']}"),
        (of["family"].to_bytes(2, "little"), f"family {of['family']}"),
        (of["port"].to_bytes(2, "little"), f"port {of['port']}"),
        (of["ip"], "address"),
    ]
    for name in ["principal", "tenant", "operation", "target"]:
        text = of[name] if isinstance(of[name], bytes) else of[name].encode()
        fixed.append((len(text).to_bytes(2, "little"), f"bytes of the {name}"))
        fixed.append((text, name))
    if more:
        fixed.append((more, "more"))
    whole = 4 + sum(len(data) for data, _ in fixed)
    length = whole if length is None else length
    lines = [(length.to_bytes(4, "little"), f"length {length}"), *fixed]
    if cut is not None:
        lines = [(b"".join(data for data, _ in lines)[:cut], f"the first {cut} bytes")]
    return [f"{data.hex()} {name}" for data, name in lines if data]


def vector(name, **changes):
    fields = {**FIELDS, **changes}
    fields["ip"] = fields["ip"].hex()
    fields["request"] = f"{fields['request']:032x}"
    return {"name": name, "hex": row(**changes), "fields": fields}


def refused(name, error, **changes):
    return {"name": name, "hex": row(**changes), "error": error}


ROWS = [
    vector("a command that was done"),
    vector("a repeat, from an address of version 4", result=REPEATED, family=4, port=4433, ip=V4),
    vector("a refusal of the metadata", result=REFUSED, code=202),
    vector(
        "what never became a command, from an address of version 6",
        result=DENIED,
        code=401,
        index=0,
        request=0,
        principal="",
        tenant="",
        operation="POST /v1/tenants",
        target="",
        family=6,
        port=1,
        ip=V6,
    ),
    vector("rows that are missing", result=GAP, to=40, operation="audit", target=""),
    vector("a letter of two bytes", principal="p:zoë"),
]

REFUSED_ROWS = [
    refused("a row cut short", "length", cut=100),
    refused("a length alone", "length", cut=4),
    refused("nothing", "length", cut=0),
    refused("a length that is too short for any row", "length", length=87),
    refused("a length beyond the longest row", "length", length=2137, more=bytes(2000)),
    refused("a row that goes on after its last text", "length", more=b"x"),
    refused("version 2", "version", version=2),
    refused("result 5", "result", result=5),
    refused("a code of what was done", "result", code=1),
    refused("missing rows of what was done", "result", to=1),
    refused("a code of missing rows", "result", result=GAP, to=40, code=1),
    refused("an address of family 5", "remote", family=5, ip=V6),
    refused("an address without a family", "remote", ip=V6),
    refused("a port without an address", "remote", port=1),
    refused("an address of version 4 that is none", "remote", family=4, ip=V6),
    refused("a text that is not UTF-8", "text", tenant=b"\xff"),
]



def crc32c(data, crc=0):
    """CRC-32C (RFC 3720 appendix B.4), a bit at a time."""
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


assert crc32c(b"123456789") == 0xE3069283

NOT_LEADER, BUSY, READ_ONLY, AUDIT, MALFORMED = range(1, 6)


def frame(kind, body, version=1, length=None, crc=None):
    data = b"".join(part for part, _ in body)
    length = len(data) if length is None else length
    crc = crc32c(data) if crc is None else crc
    head = [
        (length.to_bytes(4, "little"), f"length {length}"),
        (version.to_bytes(2, "little"), f"version {version}"),
        (kind.to_bytes(2, "little"), f"kind {kind}"),
        (crc.to_bytes(4, "little"), "checksum"),
    ]
    return [f"{data.hex()} {name}" for data, name in [*head, *body] if data]


def forward(number, envelope):
    return [(number.to_bytes(8, "little"), f"number {number}"), (envelope, "envelope")]


def returned(number, reason, limit=0):
    return [
        (number.to_bytes(8, "little"), f"number {number}"),
        (reason.to_bytes(8, "little"), f"reason {reason}"),
        (limit.to_bytes(8, "little"), f"limit {limit}"),
    ]


ENVELOPE = b"an envelope"
FRAMES = [
    {
        "name": "a command",
        "hex": frame(6, forward(1 << 40, ENVELOPE)),
        "number": 1 << 40,
        "envelope": ENVELOPE.hex(),
    }
]
for name, reason, limit in [
    ("not the leader", NOT_LEADER, 0),
    ("busy", BUSY, 4096),
    ("read only", READ_ONLY, 0),
    ("no audit", AUDIT, 0),
    ("malformed", MALFORMED, 0),
]:
    FRAMES.append(
        {
            "name": f"a command that was not taken: {name}",
            "hex": frame(7, returned(9, reason, limit)),
            "number": 9,
            "why": name,
            "limit": limit,
        }
    )

STORE = bytes(range(16))
CLUSTER = bytes(range(16, 32))


def meet(asks=0, state=0, known=0, cluster=bytes(16), address=b"n1:7420", list=7, length=None):
    length = len(address) if length is None else length
    return [
        (bytes([asks]), f"asks {asks}"),
        (bytes([state]), f"state {state}"),
        (bytes([known]), f"known {known}"),
        (bytes(1), "zero"),
        (length.to_bytes(2, "little"), "bytes of the address"),
        (bytes(2), "zero"),
        (list.to_bytes(8, "little"), f"list {list}"),
        (STORE, "store"),
        (cluster, "cluster"),
        (address, "address"),
    ]


def join(observer=0, address=b"n4:7420", registration=ENVELOPE, zero=bytes(3)):
    return [
        (bytes([observer]), f"observer {observer}"),
        (zero, "zero"),
        (len(address).to_bytes(2, "little"), "bytes of the address"),
        (bytes(2), "zero"),
        (STORE, "store"),
        (address, "address"),
        (registration, "registration"),
    ]


MEMBERS = [(b"n1", b"n1:7420"), (b"n2", b"[::1]:7420")]


def join_answer(verdict, member=0, cluster=bytes(16), members=MEMBERS, count=None):
    count = len(members) if count is None else count
    fields = [
        (bytes([verdict]), f"verdict {verdict}"),
        (bytes(1), "zero"),
        (count.to_bytes(2, "little"), f"members {count}"),
        (bytes(4), "zero"),
        (member.to_bytes(8, "little"), f"member {member}"),
        (cluster, "cluster"),
    ]
    for name, address in members:
        fields += [
            (len(name).to_bytes(2, "little"), "bytes of the name"),
            (len(address).to_bytes(2, "little"), "bytes of the address"),
            (name, "name"),
            (address, "address"),
        ]
    return fields


def beat(broker, incarnation):
    return [(incarnation.to_bytes(8, "little"), f"incarnation {incarnation}"), (broker, "broker")]


def row_of_use(tenant, asked, connections=0, stored=0, namespace=b"", length=None):
    length = len(namespace) if length is None else length
    return [
        (tenant.to_bytes(8, "little"), f"tenant {tenant}"),
        (asked.to_bytes(8, "little"), f"asked {asked}"),
        (connections.to_bytes(8, "little"), f"connections {connections}"),
        (stored.to_bytes(8, "little"), f"stored {stored}"),
        (bytes([length]), "bytes of the namespace"),
        (namespace, "namespace"),
    ]


def usage(rows, part=0, last=1, zero=0, count=None):
    count = len(rows) if count is None else count
    fields = [
        ((9).to_bytes(8, "little"), "round 9"),
        (part.to_bytes(2, "little"), f"part {part}"),
        (bytes([last]), f"last {last}"),
        (bytes([zero]), "zero"),
        (count.to_bytes(4, "little"), f"rows {count}"),
    ]
    return fields + [field for row in rows for field in row]


def audit_ask(given=(), first=3, since=0, until=2**64 - 1, limit=100, bits=None, zero=bytes(5), length=None):
    """`given`: pairs of a bit and a text, by bit."""
    bits = sum(1 << bit for bit, _ in given) if bits is None else bits
    fields = [
        ((9).to_bytes(8, "little"), "question 9"),
        (first.to_bytes(8, "little"), f"first {first}"),
        (since.to_bytes(8, "little"), f"from {since}"),
        (until.to_bytes(8, "little"), f"to {until}"),
        (limit.to_bytes(2, "little"), f"limit {limit}"),
        (bytes([bits]), f"given {bits}"),
        (zero, "zero"),
    ]
    for bit, text in given:
        count = len(text) if length is None else length
        fields += [(count.to_bytes(2, "little"), "bytes of the text"), (text, f"text {bit}")]
    return fields


def audit_said(rows=(), at=7, state=0, zero=0, count=None, zeros=bytes(4)):
    """`rows`: pairs of a number and what of the row is not as in FIELDS."""
    count = len(rows) if count is None else count
    fields = [
        ((9).to_bytes(8, "little"), "question 9"),
        (at.to_bytes(8, "little"), f"at {at}"),
        (bytes([state]), f"state {state}"),
        (bytes([zero]), "zero"),
        (count.to_bytes(2, "little"), f"rows {count}"),
        (zeros, "zeros"),
    ]
    for number, changes in rows:
        data = bytes.fromhex("".join(line.split()[0] for line in row(**changes)))
        fields += [(number.to_bytes(8, "little"), f"number {number}"), (data, "row")]
    return fields


WANTED = [(0, b"acme"), (1, b"p:ana"), (2, b"create_namespace")]
TWO_ROWS = [(3, {}), (5, {"result": DENIED, "code": 401, "index": 0})]

IN_USE = [row_of_use(7, 40, 2, 1 << 40), row_of_use(7, 30, namespace=b"pay"), row_of_use(9, 1)]

FRAMES += [
    {"name": "a node that is nobody asks", "hex": frame(8, meet(asks=1)), "meet": "fresh"},
    {"name": "a member answers", "hex": frame(8, meet(state=1, cluster=CLUSTER)), "meet": "member"},
    {"name": "a member answers one that it knows", "hex": frame(8, meet(state=1, known=1, cluster=CLUSTER)), "meet": "known"},
    {"name": "a node wants to vote", "hex": frame(9, join()), "join": "voter"},
    {"name": "a node wants to observe", "hex": frame(9, join(observer=1)), "join": "observer"},
    {"name": "a node is a member", "hex": frame(10, join_answer(1, 1 << 40, CLUSTER)), "answer": "welcome"},
    {"name": "another node leads", "hex": frame(10, join_answer(2)), "answer": "not the leader"},
    {"name": "it is under way", "hex": frame(10, join_answer(3, members=[])), "answer": "later"},
    {"name": "the name is in use", "hex": frame(10, join_answer(4, members=[])), "answer": "alive"},
    {"name": "a broker lives", "hex": frame(11, beat(b"n2", 1 << 63)), "beat": "n2"},
    {"name": "what tenants use", "hex": frame(12, usage(IN_USE)), "usage": "all"},
    {"name": "more follows", "hex": frame(12, usage(IN_USE, part=15, last=0)), "usage": "part"},
    {"name": "nothing is used", "hex": frame(12, usage([])), "usage": "none"},
    {"name": "any rows of the audit log", "hex": frame(13, audit_ask()), "ask": "any"},
    {
        "name": "some rows of the audit log",
        "hex": frame(13, audit_ask(WANTED, since=1_700_000_000_000, until=1_700_000_000_999, limit=1000)),
        "ask": "all",
    },
    {"name": "rows of one principal", "hex": frame(13, audit_ask(WANTED[1:2])), "ask": "principal"},
    {"name": "rows of the audit log", "hex": frame(14, audit_said(TWO_ROWS)), "said": "rows"},
    {"name": "more rows follow", "hex": frame(14, audit_said(TWO_ROWS, state=1)), "said": "more"},
    {"name": "no rows", "hex": frame(14, audit_said()), "said": "none"},
    {"name": "too many queries", "hex": frame(14, audit_said(at=0, state=2)), "said": "busy"},
    {"name": "rows that cannot be read", "hex": frame(14, audit_said(at=0, state=3)), "said": "unreadable"},
]

REFUSED_FRAMES = [
    {"name": name, "hex": hex, "error": error}
    for name, error, hex in [
        ("nothing", "short", []),
        ("a head that is cut short", "short", [f"{bytes(11).hex()} 11 bytes"]),
        ("a body that is cut short", "short", frame(6, forward(1, ENVELOPE), length=30)),
        ("version 2", "version", frame(6, forward(1, ENVELOPE), version=2)),
        ("kind 15", "kind", frame(15, forward(1, ENVELOPE))),
        ("a word that is cut short", "length", frame(8, meet()[:8])),
        ("a word that asks twice", "asks", frame(8, meet(asks=2))),
        ("a state that there is not", "state", frame(8, meet(state=2))),
        ("nobody of a cluster", "state", frame(8, meet(cluster=CLUSTER))),
        ("nobody who knows", "state", frame(8, meet(known=1))),
        ("a member that knows twice", "state", frame(8, meet(state=1, known=2, cluster=CLUSTER))),
        ("a word of no place", "address", frame(8, meet(address=b""))),
        ("a place that is not whole", "address", frame(8, meet(length=8))),
        ("a place that goes on", "length", frame(8, meet(length=6))),
        ("a place that is too long", "address", frame(8, meet(address=b"n" * 256))),
        ("a place that is not UTF-8", "address", frame(8, meet(address=b"\xff"))),
        ("a join that is cut short", "length", frame(9, join()[:4])),
        ("an observer twice", "observer", frame(9, join(observer=2))),
        ("a join with something else", "zero", frame(9, join(zero=b"abc"))),
        ("a join without a registration", "registration", frame(9, join(registration=b""))),
        ("a registration that is too long", "registration", frame(9, join(registration=bytes(16385)))),
        ("an answer that is cut short", "length", frame(10, join_answer(2)[:5])),
        ("verdict 0", "verdict", frame(10, join_answer(0))),
        ("verdict 5", "verdict", frame(10, join_answer(5))),
        ("a welcome of nobody", "verdict", frame(10, join_answer(1, 0, CLUSTER))),
        ("a member that is not welcome", "verdict", frame(10, join_answer(2, 1))),
        ("a cluster that is not welcome", "verdict", frame(10, join_answer(2, 0, CLUSTER))),
        ("more members than there may be", "members", frame(10, join_answer(2, members=MEMBERS * 36))),
        ("members that are missing", "members", frame(10, join_answer(2, count=3))),
        ("members that go on", "length", frame(10, join_answer(2, count=1))),
        ("a member without a name", "name", frame(10, join_answer(2, members=[(b"", b"n1:7420")]))),
        ("a member with a name that is none", "name", frame(10, join_answer(2, members=[(b"N1", b"n1:7420")]))),
        ("a beat that is cut short", "length", frame(11, [(bytes(7), "seven bytes")])),
        ("a beat of nobody", "name", frame(11, beat(b"", 1))),
        ("a beat of a name that is none", "name", frame(11, beat(b"a/b", 1))),
        ("use that is cut short", "length", frame(12, usage([])[:3])),
        ("part 16 of what is used", "part", frame(12, usage([], part=16))),
        ("a last part twice", "last", frame(12, usage([], last=2))),
        ("use with something else", "zero", frame(12, usage([], zero=1))),
        ("more use than there may be", "rows", frame(12, usage([row_of_use(n, 1) for n in range(1025)]))),
        ("use that is missing", "rows", frame(12, usage(IN_USE, count=5))),
        ("use that goes on", "length", frame(12, usage(IN_USE, count=2))),
        ("use that ends in a namespace", "length", frame(12, usage([row_of_use(7, 1, namespace=b"pay", length=4)]))),
        ("use that ends before a namespace", "length", frame(12, usage([row_of_use(7, 1, namespace=b"p" * 40)], count=2))),
        ("a tenant that is there twice", "order", frame(12, usage([row_of_use(7, 1), row_of_use(7, 1)]))),
        ("tenants in disorder", "order", frame(12, usage([row_of_use(9, 1), row_of_use(7, 1)]))),
        ("connections of a namespace", "namespace", frame(12, usage([row_of_use(7, 1, 1, namespace=b"pay")]))),
        ("a namespace that is not UTF-8", "namespace", frame(12, usage([row_of_use(7, 1, namespace=b"\xff")]))),
        ("a question that is cut short", "length", frame(13, audit_ask()[:6])),
        ("a question for no rows", "limit", frame(13, audit_ask(limit=0))),
        ("a question for too many rows", "limit", frame(13, audit_ask(limit=1001))),
        ("a text that there is not", "given", frame(13, audit_ask(bits=8))),
        ("a question with something else", "zero", frame(13, audit_ask(zero=b"abcde"))),
        ("a text that is not there", "length", frame(13, audit_ask(bits=1))),
        ("a text that is not whole", "text", frame(13, audit_ask(WANTED[:1], length=5))),
        ("a text that goes on", "length", frame(13, audit_ask(WANTED[:1], length=3))),
        ("a text that is too long", "text", frame(13, audit_ask([(0, b"n" * 513)]))),
        ("a wanted text that is not UTF-8", "text", frame(13, audit_ask([(0, b"\xff")]))),
        ("rows that are cut short", "length", frame(14, audit_said()[:4])),
        ("rows with something else", "zero", frame(14, audit_said(zero=1))),
        ("rows with something else behind their count", "zero", frame(14, audit_said(zeros=b"abcd"))),
        ("state 4 of rows", "state", frame(14, audit_said(at=0, state=4))),
        ("rows of a node that is busy", "state", frame(14, audit_said(TWO_ROWS, state=2))),
        ("a place of a node that is busy", "state", frame(14, audit_said(state=2))),
        ("more rows than there may be", "rows", frame(14, audit_said(count=1001))),
        ("rows that are missing", "length", frame(14, audit_said(TWO_ROWS, count=3))),
        ("rows that go on", "length", frame(14, audit_said(TWO_ROWS, count=1))),
        ("a row that is none", "version", frame(14, audit_said([(3, {"version": 2})]))),
        ("a row that is there twice", "order", frame(14, audit_said([(3, {}), (3, {})]))),
        ("a row behind the place", "order", frame(14, audit_said([(7, {})]))),
        ("a wrong checksum", "checksum", frame(6, forward(1, ENVELOPE), crc=7)),
        ("a command of no bytes", "envelope", frame(6, forward(1, b""))),
        ("a command without its number", "number", frame(6, [(bytes(7), "seven bytes")])),
        ("a return that is cut short", "length", frame(7, returned(1, 1)[:2])),
        ("a return that goes on", "length", frame(7, [*returned(1, 1), (b"x", "more")])),
        ("reason 0", "reason", frame(7, returned(1, 0))),
        ("reason 6", "reason", frame(7, returned(1, 6))),
        ("a limit of what is not busy", "reason", frame(7, returned(1, 1, 5))),
    ]
]

CONTENTS = [
    ("rows", ROWS),
    ("refused", REFUSED_ROWS),
    ("frames", FRAMES),
    ("refused_frames", REFUSED_FRAMES),
]
for file, content in CONTENTS:
    with open(f"{file}.json", "w", encoding="utf-8") as out:
        json.dump(content, out, indent=2, ensure_ascii=False)
        out.write("\n")

# What the fuzz targets begin with.
for file, content in CONTENTS:
    folder = pathlib.Path("../fuzz/corpus") / ("plane_message" if "frames" in file else "audit_row")
    folder.mkdir(parents=True, exist_ok=True)
    for vector in content:
        data = bytes.fromhex("".join(piece.split()[0] for piece in vector["hex"]))
        (folder / vector["name"].replace(" ", "-").replace(":", "")).write_bytes(data)
