"""What the author of a presence source in Python imports: a source is a class with describe,
configure and run, and endpoints if it has several accounts; its program calls serve(). It
speaks ../../proto/v1/source.proto over go-plugin's handshake. Debian's python3-grpcio and
python3-protobuf are all it needs; their gRPC is too old for go-plugin's AutoMTLS: the
configuration of such a source says `mtls: off`.
"""

import difflib
import json
import logging
import os
import queue
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from concurrent import futures

import grpc

import source_pb2 as pb

COOKIE = ("BUSYLAMP_PLUGIN", "presence-source")
CONTRACT = 1
MAX_MESSAGE = 1 << 20  # bytes, either way
WAITING = 256  # messages that wait for the host before those that say more wait as well
RUN_END = 1.5  # seconds that run() may take once the host is done
TEXT = 256  # bytes of a text for people
LONG = 1024  # bytes of a presentity, and of what is wrong with a key
DAY = 86400  # seconds that a claim holds at most
LAST = 253402300800  # seconds: the year 10000, which a Timestamp does not have
SECRET = re.compile("passw|passphrase|secret|token|api_?key|private_?key", re.IGNORECASE)

log = logging.getLogger("source")


class Problem(Exception):
    """What is wrong with a key of the source's section, and how to mend it; never a secret."""

    def __init__(self, key, text):
        super().__init__(f"{key}: {text}")
        self.key, self.text = key, text


class Problems(Exception):
    """Several of them."""

    def __init__(self, problems):
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


def text(value):
    """Returns a key's value that must be text."""
    if not isinstance(value, str):
        raise ValueError("must be text: put it in quotes")
    return value


def duration(value):
    """Returns the seconds of a key's value such as 5s or 1m30s."""
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    if not isinstance(value, str) or not re.fullmatch(r"([0-9.]+(ms|s|m|h))+", value):
        raise ValueError("must be a duration such as 5s or 10m")
    return sum(float(n) * units[u] for n, u in re.findall(r"([0-9.]+)(ms|s|m|h)", value))


def decode(section, kinds):
    """Reads a section strictly: kinds maps each key to a function that returns its value or
    raises ValueError. An unknown key is a Problem that names the nearest known one."""
    out, problems = {}, []
    for key, value in section.items():
        if key not in kinds:
            near = difflib.get_close_matches(key, kinds, 1)
            hint = f"did you mean {near[0]}?" if near else "the keys are " + ", ".join(kinds)
            problems.append(Problem(key, "unknown key: " + hint))
            continue
        try:
            out[key] = kinds[key](value)
        except (ValueError, TypeError) as error:
            # What int() and its like say shows the value.
            shown = SECRET.search(key) and str(value) in str(error)
            problems.append(Problem(key, "has a wrong value" if shown else str(error)))
    if problems:
        raise Problems(problems)
    return out


def missing(section, keys):
    """Returns a Problem for each required key that is not there. One in a section within is
    missed only where its section is there."""
    out = []
    for key in keys:
        at, name = section, key.name
        while "." in name and isinstance(at, dict):
            first, name = name.split(".", 1)
            at = at.get(first)
        if key.required and isinstance(at, dict) and at.get(name) is None:
            out.append(Problem(key.name, "is missing: " + key.doc))
    return out


def cut(value, most=TEXT):
    """Shortens a text for people."""
    return value.encode("utf-8", "replace")[:most].decode("utf-8", "ignore")


def wrong(claim):
    """Returns the field of a claim (pb.Claim) that is wrong, "" if none is."""
    since, until = claim.since, claim.until
    if claim.availability not in pb.Availability.values():
        return "availability"
    if claim.forward.kind not in pb.Forward.Kind.values():
        return "forward"
    for field, moment in (("since", since), ("until", until)):
        if not 0 <= moment.seconds < LAST or not 0 <= moment.nanos < 10**9:
            return field
    backwards = (until.seconds, until.nanos) < (since.seconds, since.nanos)
    return "until (before since)" if backwards and claim.HasField("until") else ""


class Limiter:
    """Lets ten lines of log through each ten seconds."""

    def __init__(self):
        self._lock, self._since, self._lines = threading.Lock(), 0.0, 0

    def __call__(self, level, *line):
        with self._lock:
            if time.monotonic() - self._since > 10:
                self._since, self._lines = time.monotonic(), 0
            self._lines += 1
            if self._lines <= 10:
                log.log(level, *line)


class Host:
    """What a source speaks to while it runs; its methods may be called from any thread."""

    def __init__(self, serves, unasked, endpoints=0):
        self.ended = threading.Event()  # the host is done: run() is to return
        self._serves = [re.compile(s) for s in serves]
        self._unasked = unasked
        self._endpoints = endpoints
        self._tell = Limiter()
        self._watched = set()
        self._requests = queue.Queue(WAITING)
        self._out = queue.Queue(WAITING)

    def request(self, timeout):
        """Returns (targets to watch, presentities to unwatch), or None after timeout seconds."""
        try:
            return self._requests.get(timeout=timeout)
        except queue.Empty:
            return None

    def claim(self, *claims):
        """Says what is known of presentities (pb.Claim): all of it, each time. One that is
        wrong is dropped and logged, with the field."""
        kept = []
        for c in claims:
            field = wrong(c)
            if field:
                self._tell(logging.ERROR, "a claim is wrong and was dropped: %s of %s", field, cut(c.presentity))
            elif self._may_name("claim", c.presentity):
                kept.append(self._bounded(c))
        for i in range(0, len(kept), WAITING):
            self._put(pb.SourceMessage(claims=kept[i : i + WAITING]))

    def _bounded(self, claim):
        """Returns a claim that is not too long, in any sense."""
        c = pb.Claim()
        c.CopyFrom(claim)
        for field in ("activity", "note", "device"):
            setattr(c, field, cut(getattr(c, field)))
        if c.HasField("forward"):
            c.forward.target = cut(c.forward.target)
        latest = int(time.time()) + DAY
        if c.HasField("until") and c.until.seconds >= latest:
            c.until.FromSeconds(latest)
        return c

    def subscription(self, presentity, state, reason="", retry_after=0):
        """Says how the watching of a presentity goes (pb.Subscription.STATE_...). It is not to
        be asked for again before so many seconds; 0: the host's own delay."""
        known = state != 0 and state in pb.Subscription.State.values()
        if not known or not 0 <= retry_after < float("inf"):
            field = "retry_after" if known else "state"
            self._tell(logging.ERROR, "a subscription is wrong and was dropped: %s of %s", field, cut(presentity))
        elif self._may_name("subscription", presentity):
            self._subscription(presentity, state, reason, retry_after)

    def _subscription(self, presentity, state, reason, retry_after=0):
        sub = pb.Subscription(presentity=presentity, state=state, reason=cut(reason))
        if retry_after > 0:
            sub.retry_after.FromNanoseconds(int(min(retry_after, DAY) * 1e9))
        self._put(pb.SourceMessage(subscriptions=[sub]))

    def connector(self, state, reason=""):
        """Says how the source stands with its system (pb.Connector.STATE_...)."""
        if state == 0 or state not in pb.Connector.State.values():
            self._tell(logging.ERROR, "a connector's state is none of the contract's: %s", state)
        else:
            self._put(pb.SourceMessage(connector=pb.Connector(state=state, reason=cut(reason))))

    def _may_name(self, what, presentity):
        """Tells whether a presentity may be spoken of."""
        if not 0 < len(presentity.encode("utf-8", "replace")) <= LONG:
            self._tell(logging.ERROR, "a %s is wrong and was dropped: presentity of %s", what, cut(presentity))
        elif not self.serves(presentity):
            self._tell(logging.ERROR, "a %s is of a presentity that serves leaves out: dropped: %s", what, presentity)
        elif not (self._unasked or presentity in self._watched):  # perhaps just unwatched: no mistake then
            self._tell(logging.INFO, "a %s is of a presentity that is not watched: dropped: %s", what, presentity)
        else:
            return True
        return False

    def serves(self, presentity):
        """Tells whether the source can speak for a presentity."""
        return not self._serves or any(s.fullmatch(presentity) for s in self._serves)

    def _put(self, message):
        while not self.ended.is_set():
            try:
                return self._out.put(message, timeout=0.2)
            except queue.Full:
                pass  # the host is busy

    def _receive(self, messages):
        """Takes what the host asks until the stream's end, and with it the source's work."""
        try:
            for m in messages:
                watch, unwatch = [], []
                for t in m.watch:
                    if t.presentity and self.serves(t.presentity):
                        self._watched.add(t.presentity)
                        t.endpoint = t.endpoint if t.endpoint < self._endpoints else 0
                        watch.append(t)
                    elif t.presentity:
                        self._subscription(t.presentity, pb.Subscription.STATE_NOT_FOUND, "the source does not serve it")
                for p in m.unwatch:
                    if p in self._watched:
                        self._watched.discard(p)
                        unwatch.append(p)
                while (watch or unwatch) and not self.ended.is_set():
                    try:
                        self._requests.put((watch, unwatch), timeout=0.2)
                        break
                    except queue.Full:
                        pass
        except Exception as error:  # pylint: disable=broad-except
            log.debug("the host's stream ended: %s", error)
        finally:
            self.ended.set()


class Servicer:
    """Answers the host for a source."""

    def __init__(self, source, leave):
        self.source, self.leave = source, leave
        self.lock = threading.Lock()
        self.configured = self.ran = False
        self.endpoints = []

    def describe(self, _request, _context):
        return self.source.describe()

    def configure(self, request, context):
        with self.lock:
            if self.ran:
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the source runs")
            self.configured, self.endpoints, problems = False, [], []
            try:
                section = json.loads(request.config or "{}")
                if not isinstance(section, dict):
                    raise Problem("", "the section is no mapping of keys to values")
                problems = missing(section, self.source.describe().keys)
                if not problems:
                    self.source.configure(section)
                    self.endpoints = [cut(e) for e in getattr(self.source, "endpoints", list)()]
            except Problem as problem:
                problems = [problem]
            except Problems as several:
                problems = several.problems
            self.configured = not problems
            told = [pb.Problem(key=cut(p.key), text=cut(p.text, LONG)) for p in problems[:WAITING]]
            return pb.ConfigureResponse(problems=told, endpoints=self.endpoints)

    def run(self, messages, context):
        with self.lock:
            if self.ran or not self.configured:
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, "a source is configured, and runs once")
            self.ran = True
        about = self.source.describe()
        host, failed = Host(about.serves, about.unasked, len(self.endpoints)), []
        context.add_callback(host.ended.set)
        threading.Thread(target=host._receive, args=(messages,), daemon=True).start()

        def work():
            try:
                self.source.run(host)
                if not host.ended.is_set():
                    failed.append("run() returned before the host was done")
            except Exception as error:  # pylint: disable=broad-except
                log.exception("run() failed")
                failed.append(f"run() failed: {error!r}")
            host.ended.set()

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        while not host.ended.is_set() or not host._out.empty():
            try:
                yield host._out.get(timeout=0.1)
            except queue.Empty:
                pass
        worker.join(RUN_END)
        self.leave(1 if failed or worker.is_alive() else 0)
        if failed:
            context.abort(grpc.StatusCode.INTERNAL, failed[0])


class Lines(logging.Formatter):
    """The lines that the host reads from standard error, as hclog writes them."""

    def format(self, record):
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + self.formatException(record.exc_info)
        level = {"WARNING": "warn", "CRITICAL": "error"}.get(record.levelname, record.levelname.lower())
        return json.dumps({"@level": level, "@message": message, "@module": record.name})


def handlers(servicer):
    """The contract's service, go-plugin's own, and gRPC's health service "plugin"."""

    def unary(f, request, response):
        return grpc.unary_unary_rpc_method_handler(f, request, response)

    def raw(answer):  # messages of no interest, as bytes
        return unary(answer, lambda b: b, lambda b: b)

    def shutdown(_request, _context):
        servicer.leave(0)
        return b""

    source = {
        "Describe": unary(servicer.describe, pb.DescribeRequest.FromString, pb.DescribeResponse.SerializeToString),
        "Configure": unary(servicer.configure, pb.ConfigureRequest.FromString, pb.ConfigureResponse.SerializeToString),
        "Run": grpc.stream_stream_rpc_method_handler(
            servicer.run, pb.HostMessage.FromString, pb.SourceMessage.SerializeToString
        ),
    }
    serving = b"\x08\x01"  # HealthCheckResponse{status: SERVING}
    return [
        grpc.method_handlers_generic_handler("busylamp.plugin.v1.Source", source),
        grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": raw(lambda r, c: serving)}),
        grpc.method_handlers_generic_handler("plugin.GRPCController", {"Shutdown": raw(shutdown)}),
    ]


def serve(source):
    """All that a source's program does: serves the host that has started it until that is
    done, or gone. It does not return."""
    if os.environ.get(COOKIE[0]) != COOKIE[1]:
        sys.exit("This is a source for busylamp, which starts it by itself: put it in plugins.dir,\n"
                 "and name it in the configuration's sources, with mtls: off.")
    host = os.getppid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C: the host ends its sources
    to_host = logging.StreamHandler(sys.stderr)
    to_host.setFormatter(Lines())
    level = os.environ.get("BUSYLAMP_LOG_LEVEL", "info").upper().replace("WARN", "WARNING")
    logging.basicConfig(handlers=[to_host], level=level if level in logging._nameToLevel else "INFO")

    done, code = threading.Event(), [0]

    def leave(status):
        code[0] = max(code[0], status)
        done.set()

    options = [("grpc.max_receive_message_length", MAX_MESSAGE), ("grpc.max_send_message_length", MAX_MESSAGE)]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8), options=options)
    server.add_generic_rpc_handlers(handlers(Servicer(source, leave)))
    folder = tempfile.mkdtemp(prefix="source", dir=os.environ.get("PLUGIN_UNIX_SOCKET_DIR"))
    path = os.path.join(folder, "socket")
    server.add_insecure_port("unix:" + path)
    server.start()
    print(f"1|{CONTRACT}|unix|{path}|grpc", flush=True)
    sys.stdout = sys.stderr  # nothing may follow that line

    while not done.wait(1.0) and os.getppid() == host:
        pass  # kill -9 of the host gives the process another parent
    server.stop(0.1).wait(1.0)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(code[0])  # whatever threads the source has left
