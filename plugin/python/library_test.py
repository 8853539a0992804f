"""Holds busylamp_source.py to what AUTHORING.md promises of it."""

import logging
import pathlib
import queue
import sys
import time
import unittest

sys.dont_write_bytecode = True  # TestAnywhere looks for it
sys.path.insert(0, str(pathlib.Path(__file__).parent / "source"))

import busylamp_source as lib  # noqa: E402
import source_pb2 as pb  # noqa: E402

ALICE = "sip:alice@example.com"
BUSY = pb.AVAILABILITY_BUSY
ACTIVE = pb.Subscription.STATE_ACTIVE


def claim(since=None, until=None, **fields):
    c = pb.Claim(**{"presentity": ALICE, "availability": BUSY, **fields})
    for moment, at in ((c.since, since), (c.until, until)):
        if at is not None:
            moment.seconds = at
    return c


class Said(unittest.TestCase):
    def setUp(self):
        self.host = lib.Host(["sip:.+"], False, 2)
        self.host._receive([pb.HostMessage(watch=[pb.Target(presentity=ALICE, endpoint=e) for e in (1, 7)])])
        self.host.ended.clear()

    def said(self):
        """Returns what was sent to the host since the last time."""
        out = []
        while True:
            try:
                out.append(self.host._out.get_nowait())
            except queue.Empty:
                return out

    def test_wrong_claims(self):
        now = int(time.time())
        bad = {
            "availability": claim(availability=17),
            "forward": claim(forward=pb.Forward(kind=9)),
            "until (before since)": claim(since=now, until=now - 5),
            "since": claim(since=-1),
            "until": claim(until=1 << 40),
            "presentity": claim(presentity="sip:" + "a" * 2000),
            "serves": claim(presentity="tel:+31"),
            "not watched": claim(presentity="sip:bob@example.com"),
        }
        for field, c in bad.items():
            self.host._tell = lib.Limiter()
            with self.assertLogs("source", logging.INFO) as lines:
                self.host.claim(c, claim(note="good"))
            self.assertEqual(["good"], [c.note for m in self.said() for c in m.claims], field)
            self.assertIn(field, lines.output[0])
            self.assertIn(c.presentity[:200], lines.output[0])

    def test_bounds_of_a_claim(self):
        c = claim(note="é" * 300, until=int(time.time()) + 10**6, forward=pb.Forward(kind=2, target="9" * 300))
        self.host.claim(c)
        out = self.said()[0].claims[0]
        self.assertEqual(("é" * 128, "9" * 256), (out.note, out.forward.target))
        self.assertLess(out.until.seconds, time.time() + lib.DAY + 5)
        self.assertEqual(300, len(c.note), "the source's own claim is left alone")

    def test_subscription(self):
        self.host.subscription(ALICE, ACTIVE, "x" * 300, retry_after=1.5)
        self.host.subscription(ALICE, ACTIVE)
        one, two = (m.subscriptions[0] for m in self.said())
        self.assertEqual((1.5, "x" * 256), (one.retry_after.ToMilliseconds() / 1000, one.reason))
        self.assertFalse(two.HasField("retry_after"))
        for state, after in ((0, 0), (7, 0), (ACTIVE, -1), (ACTIVE, float("nan"))):
            with self.assertLogs("source", logging.ERROR):
                self.host.subscription(ALICE, state, retry_after=after)
        with self.assertLogs("source", logging.INFO):
            self.host.subscription("sip:bob@example.com", ACTIVE)
        self.assertEqual([], self.said())

    def test_connector(self):
        with self.assertLogs("source", logging.ERROR):
            self.host.connector(9)
        self.assertEqual([], self.said())

    def test_log_is_bounded(self):
        with self.assertLogs("source", logging.ERROR) as lines:
            for _ in range(1000):
                self.host.claim(claim(availability=17))
        self.assertEqual(10, len(lines.output))

    def test_requests(self):
        watch, _ = self.host.request(0)
        self.assertEqual([1, 0], [t.endpoint for t in watch], "an endpoint that is none is the first")
        self.host._receive([pb.HostMessage(watch=[pb.Target(presentity="tel:+31")])])
        self.assertEqual([pb.Subscription.STATE_NOT_FOUND], [m.subscriptions[0].state for m in self.said()])


class Source:
    def describe(self):
        keys = [pb.Key(name="file", required=True), pb.Key(name="digest.user", required=True), pb.Key(name="pin")]
        return pb.DescribeResponse(name="test", version="1", keys=keys)

    def configure(self, section):
        lib.decode(section, {"file": lib.text, "digest": dict, "password": int})

    def endpoints(self):
        return ["application", "user"]


class Configured(unittest.TestCase):
    def configure(self, section):
        self.servicer = lib.Servicer(Source(), lambda _: None)
        return self.servicer.configure(pb.ConfigureRequest(config=section), None)

    def test_missing(self):
        for section, want in (
            ("", ["file"]), ('{"file":null}', ["file"]), ('{"file":"x"}', []),
            ('{"file":"x","digest":{}}', ["digest.user"]), ('{"digest":{"user":"u"}}', ["file"]),
            ('{"file":"x","digest":{"user":"u"}}', []), ("[1]", [""]),
        ):
            self.assertEqual(want, [p.key for p in self.configure(section).problems], section)

    def test_secrets(self):
        for value in ('"hunter2"', "[471100]", '{"hunter2":1}'):
            (problem,) = self.configure('{"file":"x","password":%s}' % value).problems
            self.assertEqual("password", problem.key)
            self.assertNotRegex(problem.text, "hunter2|471100")

    def test_endpoints(self):
        self.assertEqual(["application", "user"], list(self.configure('{"file":"x"}').endpoints))
        self.assertEqual([], list(self.configure("{}").endpoints))


if __name__ == "__main__":
    unittest.main()
