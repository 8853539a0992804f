"""A source to start from, in Python: presence is what a text file says, in lines such as
"sip:alice@example.com do-not-disturb writing the report". It is ../../template in Python.
"""

import sys
import time

sys.dont_write_bytecode = True  # nothing is written where plugins are kept

import source_pb2 as pb  # noqa: E402
from busylamp_source import Problem, decode, duration, serve, text  # noqa: E402

STATES = {
    "available": pb.AVAILABILITY_AVAILABLE,
    "away": pb.AVAILABILITY_AWAY,
    "busy": pb.AVAILABILITY_BUSY,
    "do-not-disturb": pb.AVAILABILITY_DO_NOT_DISTURB,
}


class Template:
    """What the source is, and its configuration."""

    def describe(self):
        return pb.DescribeResponse(
            name="template-python", version="1.0.0", summary="presence from a text file, in Python",
            serves=[r"sip:.+@.+", r"tel:\+[0-9]+"], batch=1000,
            keys=[
                pb.Key(name="file", doc="the file to read: lines of URI, state, note", required=True),
                pb.Key(name="interval", doc="how often it is read", default="1s"),
            ],
        )

    def configure(self, section):
        keys = decode(section, {"file": text, "interval": duration})
        self.file, self.interval = keys["file"], keys.get("interval", 1.0)
        if self.interval < 0.01:
            raise Problem("interval", "must be 10ms or more")

    def run(self, host):
        watched, said, due = {}, None, 0.0  # watched: the state and note said last, and when
        people, stands = None, None
        while not host.ended.is_set():
            if time.monotonic() >= due:
                people, stands = self.read(people)
                due = time.monotonic() + self.interval
            if stands != said:
                host.connector(*stands)
                said = stands
            for p, (last, when) in list(watched.items()) if people is not None else []:
                now = people.get(p, (pb.AVAILABILITY_UNSPECIFIED, ""))
                if now != last or time.time() - when > 12 * 3600:  # a claim lapses after a day
                    host.claim(pb.Claim(presentity=p, availability=now[0], note=now[1]))
                    watched[p] = now, time.time()
            request = host.request(max(0.0, due - time.monotonic()))
            if request:
                for t in request[0]:
                    watched[t.presentity] = None, 0.0
                    host.subscription(t.presentity, pb.Subscription.STATE_ACTIVE)
                for p in request[1]:
                    watched.pop(p, None)

    def read(self, before):
        """What the file says, or said before if nobody knows: then the host lets claims lapse."""
        people, stands = {}, (pb.Connector.STATE_UP, "")
        try:
            with open(self.file, encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    word = line.split()
                    if len(word) > 1 and word[1] in STATES:
                        people[word[0]] = STATES[word[1]], " ".join(word[2:])
                    elif word:
                        stands = stands[0], "a line is not URI, state, note: " + line.strip()
        except OSError as error:
            return before, (pb.Connector.STATE_CONNECTION_ERROR, str(error))
        return people, stands


if __name__ == "__main__":
    serve(Template())
