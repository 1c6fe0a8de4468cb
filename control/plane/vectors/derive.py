#!/usr/bin/env python3
"""Derives the golden bytes in this folder from docs/audit-format.md.

It shares nothing with the code: every field is written down in the order of the
document's table. Run it in this folder to write the .json files again;
`tests/all/vectors.rs` compares the code with them.

A line of "hex" is bytes, a space, and what they are.
"""
import json

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

for file, content in [("rows", ROWS), ("refused", REFUSED_ROWS)]:
    with open(f"{file}.json", "w", encoding="utf-8") as out:
        json.dump(content, out, indent=2, ensure_ascii=False)
        out.write("\n")
