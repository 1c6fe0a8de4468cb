#!/usr/bin/env python3
"""Derives the golden bytes in this folder from docs/raft-format.md.

It shares nothing with the code: every field is written down in the order of the
document's tables. Run it in this folder to write the .json files again;
`tests/all/vectors.rs` compares the code with them.

A line of "hex" is bytes, a space, and what they are.
"""
import json


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


def hard_fields(out, term, vote, commit):
    return out.num(term, 8, "term").num(vote, 8, "vote").num(commit, 8, "commit")


def hard(term, vote, commit):
    return hard_fields(Layout().num(1, 1, "version").zero(7), term, vote, commit)


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
    ("a vote", "hard", hard(9, 2, 40), {"term": 9, "vote": 2, "commit": 40}),
    ("a term without a vote", "hard", hard(0x0102030405060708, 0, 1),
     {"term": 0x0102030405060708, "vote": 0, "commit": 1}),
    ("the beginning of a group of one", "snapshot",
     snapshot(CLUSTER, 1, 1, 1, [1], [], b""),
     {"cluster": CLUSTER.hex(), "member": 1, "index": 1, "term": 1, "voters": [1],
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
    ("an entry of type 1", "entry", entry(7, 3, 41, COMMAND, kind=1), "type"),
    ("an entry with a bit where zero is", "entry", changed(PLAIN, 5, 1), "zero"),
    ("an entry of term 0", "entry", entry(0, 3, 41, COMMAND), "term"),
    ("a number without a member", "entry", entry(7, 0, 41, b""), "number"),
    ("a command without a member", "entry", entry(7, 0, 0, b"x"), "command"),
    ("promises that end early", "hard", cut(VOTE, 31), "short"),
    ("promises that go on", "hard", hard(9, 2, 40).raw(b"\0", "more"), "long"),
    ("promises with a bit where zero is", "hard", changed(VOTE, 7, 128), "zero"),
    ("a snapshot of member 0", "snapshot", snapshot(CLUSTER, 0, 5, 1, [1], [], b""), "member"),
    ("a snapshot as of entry 0", "snapshot", snapshot(CLUSTER, 1, 0, 1, [1], [], b""), "index"),
    ("a snapshot of term 0", "snapshot", snapshot(CLUSTER, 1, 5, 0, [1], [], b""), "term"),
    ("a snapshot without voters", "snapshot", snapshot(CLUSTER, 1, 5, 1, [], [2], b""), "voters"),
    ("voters out of order", "snapshot", snapshot(CLUSTER, 1, 5, 1, [2, 1], [], b""), "voters"),
    ("a voter twice", "snapshot", snapshot(CLUSTER, 1, 5, 1, [2, 2], [], b""), "voters"),
    ("voter 0", "snapshot", snapshot(CLUSTER, 1, 5, 1, [0, 1], [], b""), "voters"),
    ("eight voters", "snapshot", snapshot(CLUSTER, 1, 5, 1, range(1, 9), [], b""), "voters"),
    ("a member that votes and only listens", "snapshot",
     snapshot(CLUSTER, 1, 5, 1, [1, 2], [2], b""), "learners"),
    ("65 learners", "snapshot", snapshot(CLUSTER, 1, 5, 1, [1], range(2, 67), b""), "learners"),
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
