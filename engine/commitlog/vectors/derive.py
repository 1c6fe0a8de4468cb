#!/usr/bin/env python3
"""Derives the golden bytes in this folder from docs/storage-format.md.

It shares nothing with the engine: the checksum is computed bit by bit, every
field is written down in the order of the document's tables, and the archive of
a checkpoint's directory is laid out by hand. Run it in this folder to write the
.json files again; `format_vectors.rs` compares the engine with them.

A line of "hex" is bytes, a space, and what they are; `00*440` is 440 times 00.
"""
import json


def crc32c(data, crc=0):
    """CRC-32C (RFC 3720 appendix B.4), a bit at a time."""
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


assert crc32c(b"123456789") == 0xE3069283


def le(value, size):
    return value.to_bytes(size, "little")


def salted(salt, data):
    return crc32c(le(salt, 8) + data)


class Layout:
    """Bytes, field by field."""

    def __init__(self):
        self.fields = []

    def raw(self, data, name):
        if data:
            self.fields.append((bytes(data), name))
        return self

    def num(self, value, size, name):
        return self.raw(le(value, size), f"{name} {value}")

    def zero(self, count, name="zero"):
        return self.raw(bytes(count), name)

    def to(self, place, name="zero"):
        return self.zero(place - len(self.data()), name)

    def add(self, other):
        self.fields += other.fields
        return self

    def data(self):
        return b"".join(data for data, _ in self.fields)

    def hex(self):
        lines = []
        for data, name in self.fields:
            if len(data) > 32 and len(set(data)) == 1:
                lines.append(f"{data[0]:02x}*{len(data)} {name}")
            else:
                lines.append(f"{data.hex()} {name}")
        return lines


def sealed(magic, facts, salt=None, version=1, flags=0):
    """A sector: magic, version, flags, facts, zeros, checksum at byte 508."""
    sector = Layout().raw(magic, "magic " + magic.decode())
    sector.num(version, 4, "version").num(flags, 4, "flags").add(facts).to(508)
    crc = crc32c(sector.data()) if salt is None else salted(salt, sector.data())
    return sector.raw(le(crc, 4), "checksum")


# ------------------------------------------------------------------- segments

STORE = bytes(range(0x10, 0x20))
SALT = 0x1122334455667788
SEGMENT = 7
CHAIN = {"sequence": 31, "first_lsn": 1001, "previous_crc": 0xCAFEF00D}


def segment_facts(number=SEGMENT, segment_bytes=1 << 26):
    facts = Layout().raw(STORE, "store").num(SALT, 8, "salt").num(number, 8, "number")
    facts.num(CHAIN["first_lsn"], 8, "first record").num(CHAIN["sequence"], 8, "first group")
    facts.num(segment_bytes, 8, "segment bytes").num(1_700_000_000_000, 8, "created")
    facts.num(CHAIN["previous_crc"], 4, "checksum of the last group before")
    return facts.num(3, 2, "log")


SEGMENT_MAGIC = b"PINIONSG"
segments = [
    {
        "name": "segment header",
        "hex": sealed(SEGMENT_MAGIC, segment_facts()).to(4096).hex(),
        "fields": {
            "store": STORE.hex(), "log": 3, "number": SEGMENT, "salt": SALT,
            "segment_bytes": 1 << 26, "created": 1_700_000_000_000, **CHAIN,
        },
    }
]

# --------------------------------------------------------------------- groups


def record(spec, position, salt=SALT, segment=SEGMENT, flags=None, length=None):
    """Header, extension, body, padding to 8; and the header's checksum."""
    ext, body = spec["ext"], spec["body"]
    bits = flags if flags is not None else spec["carried"] | spec["retained"] << 1
    header = Layout()
    header.num(64 + len(ext) + len(body) if length is None else length, 4, "length")
    header.num(len(ext), 2, "extension bytes").num(spec["kind"], 1, "kind").num(bits, 1, "flags")
    header.num(spec["resource"], 8, "resource").num(spec["first"], 8, "first")
    header.num(spec["lsn"], 8, "record number").num(spec["timestamp"], 8, "timestamp")
    header.num(spec["count"], 4, "count").num(spec["epoch"], 4, "epoch")
    header.num(spec["partition"], 2, "partition").zero(6)
    header.raw(le(crc32c(ext + body), 4), "checksum of extension and body")
    place = le(segment, 8) + le(position, 4)
    crc = le(salted(salt, place + header.data()), 4)
    header.raw(crc, "checksum of the header at its place")
    whole = Layout().add(header).raw(ext, "extension").raw(body, "body")
    return whole.zero(-len(whole.data()) % 8, "padding"), crc


def group(records, offset, chain, records_max=None, tail=b"pingrend", flags=0, **bad):
    """The bytes that one write puts at `offset`."""
    inside, crcs, position = Layout(), b"", offset + 64
    for spec in records:
        laid, crc = record(spec, position, **bad)
        inside.add(laid)
        crcs += crc
        position += len(laid.data())
    inside.raw(tail, "tail")
    used = 64 + len(inside.data())
    extent = -(-used // 4096) * 4096
    rest = (inside.data() + bytes(extent - used))[512 - 64:]
    sectors = [rest[at:at + 512] for at in range(0, len(rest), 512)]
    weights = [sum(byte.bit_count() for byte in sector) for sector in sectors]
    header = Layout().raw(b"PGRP", "magic PGRP").num(used, 4, "bytes")
    header.num(len(records) if records_max is None else records_max, 4, "records")
    header.num(weights.count(0), 4, "zero sectors").num(weights.count(1), 4, "light sectors")
    header.num(offset, 4, "offset").num(SEGMENT, 8, "segment").num(chain["sequence"], 8, "sequence")
    header.num(chain["first_lsn"], 8, "first record")
    header.num(chain["previous_crc"], 4, "checksum of the group before")
    header.raw(le(crc32c(crcs), 4), "checksum of the record headers' checksums")
    header.num(flags, 4, "flags")
    crc = salted(SALT, header.data())
    header.raw(le(crc, 4), "checksum of the header")
    return header.add(inside).to(extent, "padding to a block"), crc, weights


def spec(lsn, ext=b"", body=b"", **over):
    plain = {
        "kind": 1, "carried": False, "retained": False, "resource": 0x0A0B0C0D, "partition": 5,
        "first": 40, "count": 2, "epoch": 9, "timestamp": 1_700_000_000_123, "lsn": lsn,
        "ext": ext, "body": body,
    }
    return {**plain, **over}


def group_vector(name, offset, specs, chain=CHAIN):
    layout, crc, weights = group(specs, offset, chain)
    shown = [{**s, "ext": s["ext"].hex(), "body": s["body"].hex()} for s in specs]
    return {
        "name": name, "hex": layout.hex(),
        "fields": {
            "segment": SEGMENT, "salt": SALT, "offset": offset, **chain, "crc": crc,
            "zero_sectors": weights.count(0), "light_sectors": weights.count(1), "records": shown,
        },
    }


LIGHT = bytes(1200) + b"\x10" + bytes(2999)
TWO = [
    spec(1001, ext=b"producer", body=b"a block of a stream"),
    spec(1002, body=b"a message", kind=17, carried=True, retained=True, first=77, count=1,
         resource=2**64 - 1, partition=65535, epoch=2**32 - 1),
]
groups = [
    group_vector("a record of nothing", 4096, [spec(1001, count=0)]),
    group_vector("extension, body and both flags", 8192, TWO),
    group_vector("zero sectors and one with a single bit", 65536, [spec(1001, body=LIGHT)]),
    group_vector("a body to the very end of a block", 4096,
                 [spec(1001, body=bytes(i % 251 for i in range(4096 - 64 - 64 - 8)))]),
]

# -------------------------------------------------------------------- footers


def entry(first, timestamp, block, blocks):
    return (Layout().num(first, 8, "first").num(timestamp, 8, "timestamp")
            .num(block, 4, "block").num(blocks, 4, "blocks"))


def footer(offset, partitions, chain, groups_count, body_crc=None, version=1):
    summaries, index, at = Layout(), Layout(), 0
    for p in partitions:
        own = b"".join(entry(*e).data() for e in p["entries"])
        summaries.num(p["resource"], 8, "resource").num(p["first"], 8, "first")
        summaries.num(p["end"], 8, "end").num(p["first_timestamp"], 8, "first timestamp")
        summaries.num(p["last_timestamp"], 8, "last timestamp").num(p["bytes"], 8, "bytes")
        summaries.num(p["records"], 4, "records").num(p["retained"], 4, "retained")
        summaries.num(at, 4, "first index entry").num(len(p["entries"]), 4, "index entries")
        summaries.raw(le(crc32c(own), 4), "checksum of the index entries")
        summaries.num(p["partition"], 2, "partition").num(p["carried"], 1, "flags").zero(1)
        for e in p["entries"]:
            index.add(entry(*e))
        at += len(p["entries"])
    body = Layout().add(summaries).add(index)
    extent = -(-(512 + len(body.data())) // 4096) * 4096
    body.zero(extent - 512 - len(body.data()), "padding to a block")
    crc = crc32c(body.data()) if body_crc is None else body_crc
    records = sum(p["records"] for p in partitions)

    def facts():
        f = Layout().num(SEGMENT, 8, "segment").num(chain["first_lsn"], 8, "next record")
        f.num(chain["sequence"], 8, "next group").num(chain["previous_crc"], 4, "checksum of the last group")
        f.num(offset, 4, "offset of the footer").num(len(partitions), 4, "summaries")
        f.num(at, 4, "index entries").num(groups_count, 4, "groups").num(records, 4, "records")
        return f.raw(le(crc, 4), "checksum of summaries, index and padding")

    whole = sealed(b"PINIONFH", facts(), SALT, version).add(body)
    return whole.add(sealed(b"PINIONFT", facts(), SALT, version)).zero(4096 - 512)


PARTITIONS = [
    {"resource": 4, "partition": 1, "first": 100, "end": 300, "first_timestamp": 1000,
     "last_timestamp": 5000, "bytes": 123456, "records": 20, "retained": 0, "carried": False,
     "entries": [(100, 1000, 1, 3), (180, 2500, 20, 1)]},
    {"resource": 4, "partition": 2, "first": 0, "end": 0, "first_timestamp": 1500,
     "last_timestamp": 1500, "bytes": 80, "records": 1, "retained": 0, "carried": False,
     "entries": []},
    {"resource": 4, "partition": 2, "first": 3, "end": 4, "first_timestamp": 10,
     "last_timestamp": 10, "bytes": 90, "records": 1, "retained": 1, "carried": True,
     "entries": [(3, 10, 22, 2)]},
    {"resource": 9, "partition": 0, "first": 7, "end": 9, "first_timestamp": 1200,
     "last_timestamp": 4000, "bytes": 900, "records": 3, "retained": 2, "carried": False,
     "entries": [(7, 1200, 1, 3)]},
]
NEXT = {"sequence": 44, "first_lsn": 1025, "previous_crc": 0x0BADCAFE}


def footer_vector(name, offset, partitions, groups_count):
    return {
        "name": name, "hex": footer(offset, partitions, NEXT, groups_count).hex(),
        "fields": {"segment": SEGMENT, "salt": SALT, "offset": offset, **NEXT,
                   "groups": groups_count, "partitions": partitions},
    }


footers = [
    footer_vector("three partitions, one with two summaries", 122880, PARTITIONS, 13),
    footer_vector("of a segment without groups", 4096, [], 0),
]

# ---------------------------------------------------------------- checkpoints

STATES = [
    {"resource": 4, "partition": 1, "domain": 1, "as_of": 990, "state": b"state of a stream"},
    {"resource": 9, "partition": 0, "domain": 2, "as_of": 1000, "state": bytes(range(200)) * 25},
    {"resource": 9, "partition": 1, "domain": 2, "as_of": 0, "state": b""},
]
KEPT = [
    {"number": 6, "salt": 0x0101010101010101, "first_lsn": 501},
    {"number": 7, "salt": SALT, "first_lsn": 1001},
]


def directory(entries, segments):
    """An rkyv 0.8 archive: the elements of both lists, then the root: for each
    list a relative pointer (i32, from its own place) and a length (u32)."""
    archive = Layout()
    for e in entries:
        archive.num(e["resource"], 8, "resource").num(e["as_of"], 8, "as of record")
        archive.num(e["at"], 8, "at").num(e["len"], 4, "length")
        archive.raw(le(e["crc"], 4), "checksum of the state")
        archive.num(e["partition"], 2, "partition").num(e["domain"], 1, "domain").zero(5)
    second = len(archive.data())
    for s in segments:
        archive.num(s["number"], 8, "segment").num(s["salt"], 8, "salt")
        archive.num(s["first_lsn"], 8, "first record")
    root = len(archive.data())
    for start, at, count in ((0, root, entries), (second, root + 8, segments)):
        archive.raw((start - at).to_bytes(4, "little", signed=True), f"pointer {start - at}")
        archive.num(len(count), 4, "count")
    return archive


def checkpoint(states, segments, replay_from, number=12, salt=0xA5A5, trailer_version=1):
    facts = Layout().raw(STORE, "store").num(salt, 8, "salt").num(number, 8, "number")
    facts.num(1_700_000_000_000, 8, "created").num(3, 2, "log")
    whole = sealed(b"PINIONCK", facts).to(4096)
    entries = []
    for s in states:
        whole.zero(-len(whole.data()) % 16, "padding")
        at = len(whole.data())
        entries.append({**s, "at": at, "len": len(s["state"]), "crc": salted(salt, le(at, 8) + s["state"])})
        whole.raw(s["state"], "state")
    whole.zero(-len(whole.data()) % 16, "padding")
    place, archive = len(whole.data()), directory(entries, segments)
    whole.add(archive)
    whole.zero(-len(whole.data()) % 4096, "padding to a block")
    end = len(whole.data()) + 4096
    facts = Layout().num(number, 8, "number").num(replay_from, 8, "replay from record")
    facts.num(place, 8, "place of the directory").num(len(archive.data()), 4, "bytes of the directory")
    facts.raw(le(crc32c(archive.data()), 4), "checksum of the directory")
    facts.num(len(states), 4, "states").num(len(segments), 4, "segments").num(end, 8, "bytes of the file")
    return whole.add(sealed(b"PINIONCT", facts, salt, trailer_version)).zero(4096 - 512)


checkpoints = [
    {
        "name": "three states and two segments",
        "hex": checkpoint(STATES, KEPT, 991).hex(),
        "fields": {
            "store": STORE.hex(), "log": 3, "number": 12, "salt": 0xA5A5,
            "created": 1_700_000_000_000, "replay_from": 991,
            "states": [{**s, "state": s["state"].hex()} for s in STATES], "segments": KEPT,
        },
    }
]

# -------------------------------------------------------------------- refused

# Everything here has right checksums, unless its name says otherwise: what is
# refused is refused for what it says.


def changed(layout, *changes):
    data = bytearray(layout.data())
    for at, new in changes:
        data[at:at + len(new)] = new
    lines, at = Layout(), 0
    while at < len(data):
        end = at
        if data[at] == 0:
            while end < len(data) and data[end] == 0:
                end += 1
            lines.zero(end - at)
        else:
            while end < len(data) and data[end:end + 33] != bytes(min(33, len(data) - end)):
                end += 1
            lines.raw(data[at:end], "bytes")
        at = end
    return lines


def refused_segment(name, error, **over):
    layout = sealed(SEGMENT_MAGIC, over.pop("facts", segment_facts()), **over).to(4096)
    return {"name": name, "decode": "segment", "error": error, "hex": layout.hex()}


def refused_group(name, verdict, error, layout):
    return {"name": name, "decode": "group", "segment": SEGMENT, "salt": SALT, "offset": 8192,
            "verdict": verdict, "error": error, "hex": layout.hex()}


good_group = group(TWO, 8192, CHAIN)[0]
long_group = group([spec(1001, body=bytes(range(256)) * 20)], 8192, CHAIN)[0]
light_group = group([spec(1001, body=LIGHT)], 8192, CHAIN)[0]
# The sector with the light bit, counted in the group.
LIT = (64 + 64 + 1200) // 512

refused = [
    refused_segment("segment of version 2", "Version", version=2),
    refused_segment("segment with a flag", "Flags", flags=1),
    refused_segment("segment of another magic", "Magic") | {
        "hex": sealed(b"PINIONSX", segment_facts()).to(4096).hex()},
    refused_segment("segment with more than the known fields", "NotZero",
                    facts=segment_facts().num(1, 1, "unknown")),
    refused_segment("segment of number 0", "Mismatch", facts=segment_facts(number=0)),
    refused_segment("segment of 4 GiB", "Limit", facts=segment_facts(segment_bytes=1 << 32)),
    refused_segment("segment header never written", "Blank") | {"hex": Layout().zero(4096).hex()},
    refused_segment("segment header cut short", "Short") | {
        "hex": sealed(SEGMENT_MAGIC, segment_facts()).to(2048).hex()},
    refused_segment("segment header with a flipped bit (checksum wrong)", "Checksum") | {
        "hex": changed(sealed(SEGMENT_MAGIC, segment_facts()).to(4096), (40, b"\x06")).hex()},

    refused_group("nothing written", "Empty", None, Layout().zero(4096)),
    refused_group("one flipped bit where nothing was written", "Empty", None,
                  changed(Layout().zero(4096), (300, b"\x40"))),
    refused_group("first sector lost", "Empty", None, changed(long_group, (0, bytes(512)))),
    refused_group("last sector lost", "Torn", None,
                  changed(long_group, (len(long_group.data()) - 6 * 512, bytes(6 * 512)))),
    refused_group("a sector in the middle lost", "Torn", None, changed(long_group, (1024, bytes(512)))),
    refused_group("a bit of a body flipped", "Damaged", "Checksum", changed(long_group, (2000, b"\xff"))),
    refused_group("the one bit of a sector flipped to zero", "Damaged", "Checksum",
                  changed(light_group, (64 + 64 + 1200, b"\0"))),
    refused_group("light sector and another lost", "Torn", None,
                  changed(light_group, (LIT * 512, bytes(512)), (4096, bytes(512)))),
    refused_group("a bit of the padding flipped", "Damaged", "NotZero", changed(good_group, (4000, b"\x01"))),
    refused_group("other tail", "Damaged", "Magic", group(TWO, 8192, CHAIN, tail=b"pingrenD")[0]),
    refused_group("a flag of the group", "Damaged", "Flags", group(TWO, 8192, CHAIN, flags=1)[0]),
    refused_group("a group of another place", "Damaged", "Mismatch", group(TWO, 4096, CHAIN)[0]),
    refused_group("more records than fit", "Damaged", "Limit", group(TWO, 8192, CHAIN, records_max=5)[0]),
    refused_group("no records", "Damaged", "Mismatch", group(TWO, 8192, CHAIN, records_max=0)[0]),
    refused_group("one record less than there are", "Damaged", "Mismatch",
                  group(TWO, 8192, CHAIN, records_max=1)[0]),
    refused_group("records that are not in a row", "Damaged", "Mismatch",
                  group([TWO[0], {**TWO[1], "lsn": 1003}], 8192, CHAIN)[0]),
    refused_group("a flag of a record", "Damaged", "Flags",
                  group([{**TWO[0], "carried": 4}], 8192, CHAIN)[0]),
    refused_group("a record longer than its group", "Damaged", "Short",
                  group([TWO[0]], 8192, CHAIN, length=4000)[0]),
    refused_group("a record shorter than its extension", "Damaged", "Short",
                  group([TWO[0]], 8192, CHAIN, length=70)[0]),
    refused_group("a record longer than any", "Damaged", "Limit",
                  group([TWO[0]], 8192, CHAIN, length=64 << 20)[0]),
    refused_group("a record of another segment", "Damaged", "Checksum",
                  group(TWO, 8192, CHAIN, segment=SEGMENT + 1)[0]),
    refused_group("a record salted otherwise", "Damaged", "Checksum",
                  group(TWO, 8192, CHAIN, salt=SALT + 1)[0]),
    refused_group("a footer", "Footer", None, footer(8192, PARTITIONS[1:2], NEXT, 1)),
    refused_group("a group that goes on", "Incomplete", None,
                  Layout().raw(long_group.data()[:4096], "the first block only")),
]


def refused_footer(name, error, layout):
    return {"name": name, "decode": "footer", "segment": SEGMENT, "salt": SALT, "offset": 122880,
            "error": error, "hex": layout.hex()}


good_footer = footer(122880, PARTITIONS, NEXT, 13)
SWAPPED = [PARTITIONS[1], PARTITIONS[0]]
FLAGGED = [{**PARTITIONS[0], "carried": 2}]
refused += [
    refused_footer("footer of version 2", "Version", footer(122880, PARTITIONS, NEXT, 13, version=2)),
    refused_footer("footer of another place", "Mismatch", footer(126976, PARTITIONS, NEXT, 13)),
    refused_footer("summaries out of order", "Mismatch", footer(122880, SWAPPED, NEXT, 13)),
    refused_footer("a flag of a summary", "Flags", footer(122880, FLAGGED, NEXT, 13)),
    refused_footer("more groups than blocks", "Limit", footer(122880, PARTITIONS, NEXT, 31)),
    refused_footer("index changed (checksum wrong)", "Checksum",
                   changed(good_footer, (512 + 4 * 72, b"\x65"))),
    refused_footer("head changed (checksum wrong)", "Checksum", changed(good_footer, (60, b"\x1a"))),
    refused_footer("trailer never written", "Blank", changed(good_footer, (4096, bytes(4096)))),
]


def refused_checkpoint(name, error, layout):
    return {"name": name, "decode": "checkpoint", "error": error, "hex": layout.hex()}


good_checkpoint = checkpoint(STATES, KEPT, 991)
refused += [
    refused_checkpoint("checkpoint without its trailer", "Blank",
                       changed(good_checkpoint, (len(good_checkpoint.data()) - 4096, bytes(4096)))),
    refused_checkpoint("checkpoint of version 2", "Version",
                       checkpoint(STATES, KEPT, 991, trailer_version=2)),
    refused_checkpoint("a state that changed (checksum wrong)", "Checksum",
                       changed(good_checkpoint, (4096, b"S"))),
    refused_checkpoint("a block behind the trailer", "Blank",
                       Layout().add(good_checkpoint).zero(4096)),
]

for name, vectors in (("segments", segments), ("groups", groups), ("footers", footers),
                      ("checkpoints", checkpoints), ("refused", refused)):
    with open(f"{name}.json", "w", encoding="utf-8") as out:
        json.dump(vectors, out, indent=2, default=lambda value: value.hex())
        out.write("\n")
    print(f"{name}: {len(vectors)}")
