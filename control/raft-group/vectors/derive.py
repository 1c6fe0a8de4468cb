#!/usr/bin/env python3
"""Derives the golden bytes in this folder from docs/raft-format.md and
docs/peer-protocol.md.

It shares nothing with the code: the checksum is computed bit by bit, and every
field is written down in the order of the documents' tables. Run it in this folder to
write the .json files again; `tests/all/vectors.rs` and `tests/all/peer_vectors.rs`
compare the code with them.

A line of "hex" is bytes, a space, and what they are.
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

    def zero(self, count):
        return self.raw(bytes(count), "zero")

    def add(self, other):
        self.fields += other.fields
        return self

    def data(self):
        return b"".join(data for data, _ in self.fields)

    def lines(self):
        return [f"{data.hex()} {name}" for data, name in self.fields]


def entry(term, member, number, command, version=1, kind=0):
    out = Layout().num(version, 1, "version").num(kind, 1, "type").zero(6)
    out.num(term, 8, "term").num(member, 8, "member").num(number, 8, "number")
    return out.raw(command, "command")


def change(kind, member):
    return le(kind, 1) + bytes(7) + le(member, 8)


def hard_fields(out, term, vote, commit):
    return out.num(term, 8, "term").num(vote, 8, "vote").num(commit, 8, "commit")


def hard(term, vote, commit, after=(1, 1)):
    out = hard_fields(Layout().num(1, 1, "version").zero(7), term, vote, commit)
    return out.num(after[0], 8, "after").num(after[1], 8, "after's term")


def snapshot(cluster, member, index, term, voters, learners, machine):
    out = Layout().num(1, 1, "version").zero(7).raw(cluster, "cluster")
    out.num(member, 8, "member").num(index, 8, "index").num(term, 8, "term")
    out.num(len(voters), 4, "voters").num(len(learners), 4, "learners")
    for voter in voters:
        out.num(voter, 8, "voter")
    for learner in learners:
        out.num(learner, 8, "learner")
    return out.raw(machine, "machine")


def tail(before, promises, entries, count=None):
    out = Layout().num(1, 1, "version").zero(7)
    out.num(before[0], 8, "before").num(before[1], 8, "before's term")
    hard_fields(out, *promises)
    out.num(len(entries) if count is None else count, 4, "entries").zero(4)
    for one in entries:
        out.num(len(one.data()), 4, "length").add(one)
    return out


def changed(layout, at, value):
    """The same bytes with one of them another; the fields are not told apart."""
    data = bytearray(layout.data())
    data[at] = value
    return Layout().raw(bytes(data), f"byte {at} is {value}")


def cut(layout, length):
    return Layout().raw(layout.data()[:length], f"the first {length} bytes")


CLUSTER = bytes(range(0x40, 0x50))
COMMAND = b"\x01\x02rename tenant"

BODIES = [
    ("a command", "entry", entry(7, 3, 41, COMMAND),
     {"term": 7, "member": 3, "number": 41, "command": COMMAND.hex()}),
    ("a command of no bytes", "entry", entry(1, 1, 0, b""),
     {"term": 1, "member": 1, "number": 0, "command": ""}),
    ("the empty entry of a new leader", "entry", entry(0x1_0000_0002, 0, 0, b""),
     {"term": 0x1_0000_0002, "member": 0, "number": 0, "command": ""}),
    ("a member that listens", "entry", entry(3, 1, 6, change(1, 4), kind=1),
     {"term": 3, "member": 1, "number": 6, "members": True, "command": change(1, 4).hex()}),
    ("a member that votes", "entry", entry(3, 1, 7, change(2, 4), kind=1),
     {"term": 3, "member": 1, "number": 7, "members": True, "command": change(2, 4).hex()}),
    ("a member that is gone", "entry", entry(3, 1, 8, change(3, 2), kind=1),
     {"term": 3, "member": 1, "number": 8, "members": True, "command": change(3, 2).hex()}),
    ("a vote", "hard", hard(9, 2, 40, (0x1122334455667788, 8)),
     {"term": 9, "vote": 2, "commit": 40, "after": [0x1122334455667788, 8]}),
    ("a term without a vote", "hard", hard(0x0102030405060708, 0, 1),
     {"term": 0x0102030405060708, "vote": 0, "commit": 1, "after": [1, 1]}),
    ("a vote of a member that has nothing", "hard", hard(3, 1, 0, (0, 0)),
     {"term": 3, "vote": 1, "commit": 0, "after": [0, 0]}),
    ("the beginning of a group of one", "snapshot",
     snapshot(CLUSTER, 1, 1, 1, [1], [], b""),
     {"cluster": CLUSTER.hex(), "member": 1, "index": 1, "term": 1, "voters": [1],
      "learners": [], "machine": ""}),
    ("a member that waits for its first snapshot", "snapshot",
     snapshot(CLUSTER, 4, 0, 0, [], [], b""),
     {"cluster": CLUSTER.hex(), "member": 4, "index": 0, "term": 0, "voters": [],
      "learners": [], "machine": ""}),
    ("three voters, two learners and a machine", "snapshot",
     snapshot(CLUSTER, 2, 1000, 12, [1, 2, 5], [4, 9], b"machine"),
     {"cluster": CLUSTER.hex(), "member": 2, "index": 1000, "term": 12,
      "voters": [1, 2, 5], "learners": [4, 9], "machine": b"machine".hex()}),
    ("a tail without entries", "tail", tail((1, 1), (1, 0, 1), []),
     {"before": [1, 1], "term": 1, "vote": 0, "commit": 1, "entries": []}),
    ("a tail of two leaders", "tail",
     tail((995, 11), (12, 2, 997),
          [entry(11, 1, 8, b"a"), entry(12, 0, 0, b""), entry(12, 2, 1, b"bc")]),
     {"before": [995, 11], "term": 12, "vote": 2, "commit": 997, "entries": [
         {"term": 11, "member": 1, "number": 8, "command": b"a".hex()},
         {"term": 12, "member": 0, "number": 0, "command": ""},
         {"term": 12, "member": 2, "number": 1, "command": b"bc".hex()}]}),
]

PLAIN = entry(7, 3, 41, COMMAND)
VOTE = hard(9, 2, 40)
TWO = snapshot(CLUSTER, 2, 1000, 12, [1, 2], [4], b"m")
ONE_ENTRY = tail((5, 1), (2, 0, 5), [entry(2, 1, 1, b"x")])

REFUSED = [
    ("nothing", "entry", Layout(), "short"),
    ("an entry without its last number", "entry", cut(PLAIN, 31), "short"),
    ("an entry of version 2", "entry", entry(7, 3, 41, COMMAND, version=2), "version"),
    ("an entry of type 2", "entry", entry(7, 3, 41, COMMAND, kind=2), "type"),
    ("a change of another length", "entry", entry(7, 3, 41, change(1, 4) + b"\0", kind=1), "long"),
    ("half a change", "entry", entry(7, 3, 41, change(1, 4)[:15], kind=1), "short"),
    ("a change of member 0", "entry", entry(7, 3, 41, change(1, 0), kind=1), "member"),
    ("no change that is known", "entry", entry(7, 3, 41, change(4, 2), kind=1), "change"),
    ("a change of nobody's", "entry", entry(7, 0, 0, change(1, 4), kind=1), "command"),
    ("an entry with a bit where zero is", "entry", changed(PLAIN, 5, 1), "zero"),
    ("an entry of term 0", "entry", entry(0, 3, 41, COMMAND), "term"),
    ("an entry of a term beyond all", "entry", entry(1 << 63, 3, 41, COMMAND), "term"),
    ("a number without a member", "entry", entry(7, 0, 41, b""), "number"),
    ("a command without a member", "entry", entry(7, 0, 0, b"x"), "command"),
    ("promises of a term beyond all", "hard", hard(1 << 63, 0, 1), "term"),
    ("promises that end early", "hard", cut(VOTE, 47), "short"),
    ("promises after an entry of no term", "hard", hard(9, 2, 40, (5, 0)), "after"),
    ("promises after no entry of a term", "hard", hard(9, 2, 40, (0, 5)), "after"),
    ("promises after an entry of a later term", "hard", hard(9, 2, 40, (5, 10)), "after"),
    ("promises after an entry beyond all", "hard", hard(9, 2, 40, (1 << 63, 9)), "after"),
    ("promises that go on", "hard", hard(9, 2, 40).raw(b"\0", "more"), "long"),
    ("promises with a bit where zero is", "hard", changed(VOTE, 7, 128), "zero"),
    ("a snapshot of member 0", "snapshot", snapshot(CLUSTER, 0, 5, 1, [1], [], b""), "member"),
    ("a snapshot as of entry 0", "snapshot", snapshot(CLUSTER, 1, 0, 1, [1], [], b""), "index"),
    ("a snapshot of term 0", "snapshot", snapshot(CLUSTER, 1, 5, 0, [1], [], b""), "index"),
    ("a snapshot beyond all entries", "snapshot",
     snapshot(CLUSTER, 1, 1 << 63, 1, [1], [], b""), "index"),
    ("voters before the beginning", "snapshot", snapshot(CLUSTER, 1, 0, 0, [1], [], b""), "voters"),
    ("learners before the beginning", "snapshot",
     snapshot(CLUSTER, 1, 0, 0, [], [1], b""), "machine"),
    ("a machine before the beginning", "snapshot",
     snapshot(CLUSTER, 1, 0, 0, [], [], b"m"), "machine"),
    ("a snapshot without voters", "snapshot", snapshot(CLUSTER, 1, 5, 1, [], [2], b""), "voters"),
    ("voters out of order", "snapshot", snapshot(CLUSTER, 1, 5, 1, [2, 1], [], b""), "voters"),
    ("a voter twice", "snapshot", snapshot(CLUSTER, 1, 5, 1, [2, 2], [], b""), "voters"),
    ("voter 0", "snapshot", snapshot(CLUSTER, 1, 5, 1, [0, 1], [], b""), "voters"),
    ("eight voters", "snapshot", snapshot(CLUSTER, 1, 5, 1, range(1, 9), [], b""), "voters"),
    ("a member that votes and only listens", "snapshot",
     snapshot(CLUSTER, 1, 5, 1, [1, 2], [2], b""), "learners"),
    ("72 learners", "snapshot", snapshot(CLUSTER, 1, 5, 1, [1], range(2, 74), b""), "learners"),
    ("a snapshot that ends in its members", "snapshot", cut(TWO, 70), "short"),
    ("a snapshot with a bit where zero is", "snapshot", changed(TWO, 1, 1), "zero"),
    ("a tail of more entries than it has bytes for", "tail",
     tail((5, 1), (2, 0, 5), [entry(2, 1, 1, b"x")], count=0xFFFFFFFF), "short"),
    ("a tail of fewer entries than it has", "tail",
     tail((5, 1), (2, 0, 5), [entry(2, 1, 1, b"x")], count=0), "long"),
    ("a tail with a bit where zero is", "tail", changed(ONE_ENTRY, 53, 1), "zero"),
    ("a tail behind the end of all indexes", "tail",
     tail((1 << 63, 1), (2, 0, 5), []), "before"),
    ("a tail whose terms fall", "tail",
     tail((5, 1), (3, 0, 5), [entry(3, 1, 1, b""), entry(2, 1, 2, b"")]), "term"),
    ("an entry longer than its tail", "tail",
     changed(ONE_ENTRY, 56, 40), "short"),
]


# ------------------------------------------------------------------- frames

NUMBERS = {"append": 3, "append answer": 4, "vote": 5, "vote answer": 6, "heartbeat": 8,
           "heartbeat answer": 9, "timeout now": 14, "read index": 15,
           "read index answer": 16, "pre-vote": 17, "pre-vote answer": 18}


def frame(body, version=1, kind=2, crc=None, length=None):
    data = body.data()
    out = Layout().num(len(data) if length is None else length, 4, "length")
    out.num(version, 2, "version").num(kind, 2, "kind")
    out.num(crc32c(data) if crc is None else crc, 4, "checksum")
    return out.add(body)


def message(what, sender, to, term, log_term=0, index=0, commit=0, commit_term=0, reject=0,
            reject_hint=0, request_snapshot=0, context=b"", entries=(), number=None, count=None):
    out = Layout().num(NUMBERS[what] if number is None else number, 1, f"type ({what})")
    out.num(reject, 1, "reject").zero(2)
    out.num(len(entries) if count is None else count, 4, "entries")
    out.num(sender, 8, "from").num(to, 8, "to").num(term, 8, "term")
    out.num(log_term, 8, "log term").num(index, 8, "index").num(commit, 8, "commit")
    out.num(commit_term, 8, "commit term").num(reject_hint, 8, "reject hint")
    out.num(request_snapshot, 8, "request snapshot")
    out.num(len(context), 4, "context").zero(4).raw(context, "context")
    for one in entries:
        out.num(len(one.data()), 4, "length").add(one)
    return out


def messages(*all_of_them):
    out = Layout()
    for one in all_of_them:
        out.add(one)
    return out


def offer(transfer, term, total, crc):
    out = Layout().num(transfer, 8, "transfer").num(term, 8, "term").num(total, 8, "total")
    return out.num(crc, 4, "checksum of all").zero(4)


def chunk(transfer, offset, part):
    return Layout().num(transfer, 8, "transfer").num(offset, 8, "offset").raw(part, "part")


def ack(transfer, offset, verdict):
    out = Layout().num(transfer, 8, "transfer").num(offset, 8, "offset")
    return out.num(verdict, 8, "verdict")


QUESTION = le(2, 8) + le(5, 8)
FRAMES = [
    ("no messages", 0, frame(Layout())),
    ("a heartbeat", 1, frame(message("heartbeat", 1, 2, 7, commit=40))),
    ("a heartbeat that carries a question", 1,
     frame(message("heartbeat", 1, 2, 7, commit=40, context=QUESTION))),
    ("its answer", 1, frame(message("heartbeat answer", 2, 1, 7, commit=39, context=QUESTION))),
    ("two appends", 2, frame(messages(
        message("append", 1, 3, 9, log_term=8, index=41, commit=40,
                entries=[entry(8, 2, 3, COMMAND), entry(9, 0, 0, b"")]),
        message("append", 1, 3, 9, log_term=9, index=43, commit=41)))),
    ("an append is taken", 1, frame(message("append answer", 3, 1, 9, index=43, commit=41))),
    ("an append is refused", 1, frame(message("append answer", 3, 1, 9, log_term=7, index=41,
                                              commit=30, reject=1, reject_hint=35))),
    ("a vote is asked for", 1, frame(message("vote", 2, 3, 10, log_term=9, index=43))),
    ("a vote is asked for by who was given the lead", 1,
     frame(message("vote", 2, 3, 10, log_term=9, index=43, context=b"CampaignTransfer"))),
    ("a vote is refused", 1, frame(message("vote answer", 3, 2, 10, commit=41, commit_term=9,
                                           reject=1))),
    ("a pre-vote is asked for", 1, frame(message("pre-vote", 2, 3, 11, log_term=9, index=43))),
    ("a pre-vote is given", 1, frame(message("pre-vote answer", 3, 2, 11))),
    ("the lead is given", 1, frame(message("timeout now", 1, 2, 9))),
    ("a question to read", 1, frame(message("read index", 2, 1, 0, context=QUESTION))),
    ("the answer to it", 1, frame(message("read index answer", 1, 2, 9, index=41,
                                          context=QUESTION))),
]

FRAMES += [
    ("a snapshot is offered", 0, frame(offer(3, 9, 1_000_000, 0x01020304), kind=3)),
    ("a part of it", 0, frame(chunk(3, 262_144, b"part"), kind=4)),
    ("it goes on", 0, frame(ack(3, 262_148, 0), kind=5)),
    ("it is not wanted", 0, frame(ack(3, 0, 1), kind=5)),
    ("it is there", 0, frame(ack(3, 1_000_000, 2), kind=5)),
    ("it is not what was offered", 0, frame(ack(3, 0, 3), kind=5)),
]

BEAT = message("heartbeat", 1, 2, 7, commit=40)
BAD_FRAMES = [
    ("nothing", Layout(), "short"),
    ("a head without its last byte", cut(frame(BEAT), 11), "short"),
    ("a frame without its last byte", cut(frame(BEAT), 99), "short"),
    ("a frame that goes on", frame(BEAT).raw(b"\0", "more"), "short"),
    ("a frame of 4 GiB", frame(BEAT, length=0xFFFFFFFF), "long"),
    ("a frame of one byte too many", frame(BEAT, length=0x110001), "long"),
    ("version 2", frame(BEAT, version=2), "version"),
    ("kind 0", frame(BEAT, kind=0), "kind"),
    ("kind 200", frame(BEAT, kind=200), "kind"),
    ("another checksum", frame(BEAT, crc=1), "checksum"),
    ("an offer that ends early", frame(cut(offer(3, 9, 10, 1), 31), kind=3), "body short"),
    ("an offer that goes on", frame(offer(3, 9, 10, 1).raw(b"\0", "more"), kind=3), "body long"),
    ("an offer of term 0", frame(offer(3, 0, 10, 1), kind=3), "term"),
    ("an offer of a term beyond all", frame(offer(3, 1 << 63, 10, 1), kind=3), "term"),
    ("an offer with a bit where zero is", frame(changed(offer(3, 9, 10, 1), 31, 1), kind=3),
     "zero"),
    ("a chunk of nothing", frame(chunk(3, 0, b""), kind=4), "chunk"),
    ("a chunk without its offset", frame(cut(chunk(3, 0, b"x"), 15), kind=4), "body short"),
    ("a verdict of 4", frame(ack(3, 0, 4), kind=5), "verdict"),
    ("a verdict that goes on", frame(ack(3, 0, 1).raw(b"\0", "more"), kind=5), "body long"),
    ("half a message", frame(cut(BEAT, 87)), "body short"),
    ("a proposal", frame(message("append", 1, 2, 7, number=2)), "type"),
    ("a snapshot", frame(message("append", 1, 2, 7, number=7)), "type"),
    ("a call to campaign", frame(message("append", 1, 2, 7, number=0)), "type"),
    ("a refusal of 2", frame(message("heartbeat", 1, 2, 7, reject=2)), "reject"),
    ("a bit where zero is", frame(changed(BEAT, 3, 1)), "zero"),
    ("a bit where zero is after the context", frame(changed(BEAT, 84, 1)), "zero"),
    ("from nobody", frame(message("heartbeat", 0, 2, 7)), "from"),
    ("to nobody", frame(message("heartbeat", 1, 0, 7)), "from"),
    ("to itself", frame(message("heartbeat", 1, 1, 7)), "from"),
    ("a heartbeat of term 0", frame(message("heartbeat", 1, 2, 0)), "term"),
    ("a question in a term", frame(message("read index", 2, 1, 7, context=QUESTION)), "term"),
    ("a term beyond all", frame(message("append", 1, 2, 1 << 63)), "term"),
    ("a log term beyond all", frame(message("append", 1, 2, 7, log_term=1 << 63)), "log term"),
    ("an index beyond all", frame(message("append", 1, 2, 7, index=1 << 63)), "index"),
    ("a commit beyond all", frame(message("append", 1, 2, 7, commit=1 << 63)), "commit"),
    ("a hint beyond all", frame(message("append answer", 1, 2, 7, reject=1,
                                        reject_hint=1 << 63)), "reject hint"),
    ("a wish for a snapshot", frame(message("append answer", 1, 2, 7, request_snapshot=1)),
     "request snapshot"),
    ("a context of 65 bytes", frame(message("heartbeat", 1, 2, 7, context=bytes(65))), "context"),
    ("a heartbeat with an entry", frame(message("heartbeat", 1, 2, 7,
                                                entries=[entry(7, 1, 1, b"")])), "entries"),
    ("more entries than there are bytes", frame(message("append", 1, 2, 7, count=0xFFFFFFFF)),
     "body short"),
    ("entries whose terms fall", frame(message("append", 1, 2, 7, log_term=5, entries=[
        entry(6, 1, 1, b""), entry(5, 1, 2, b"")])), "entry's term"),
    ("an entry older than the one before", frame(message("append", 1, 2, 7, log_term=5,
                                                         entries=[entry(4, 1, 1, b"")])),
     "entry's term"),
    ("an entry newer than its leader", frame(message("append", 1, 2, 7, log_term=5,
                                                     entries=[entry(8, 1, 1, b"")])),
     "entry's term"),
]


def write(name, vectors):
    with open(f"{name}.json", "w", encoding="ascii") as file:
        json.dump(vectors, file, indent=2)
        file.write("\n")


write("bodies", [
    {"name": name, "kind": kind, "hex": layout.lines(), "fields": fields}
    for name, kind, layout, fields in BODIES
])
write("refused", [
    {"name": name, "kind": kind, "hex": layout.lines(), "error": error}
    for name, kind, layout, error in REFUSED
])
write("frames", [
    {"name": name, "hex": layout.lines(), "messages": count}
    for name, count, layout in FRAMES
])
write("refused_frames", [
    {"name": name, "hex": layout.lines(), "error": error}
    for name, layout, error in BAD_FRAMES
])
