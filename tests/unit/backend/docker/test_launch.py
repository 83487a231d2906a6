"""A whole start, with an engine of the test's own: secrets go to the containers' input and nowhere else."""

from __future__ import annotations

import errno
import json
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from claude_bottle.backend.base import AUTHORITIES, BottleRequest, BundlePlan, EnvoyFiles, Secrets
from claude_bottle.backend.docker.api import EngineError, Line
from claude_bottle.backend.docker.engine import EngineFacts
from claude_bottle.backend.docker.launch import Launching
from claude_bottle.backend.docker.plan import DockerPlan
from claude_bottle.errors import BottleError
from claude_bottle.state.paths import BottlePaths
from tests.support.plans import STATE, request
from tests.unit.backend.docker.test_attached import out
from tests.unit.backend.docker.test_enumerate import item
from tests.unit.backend.docker.test_plan import GVISOR, LOCAL, NAMES, REMOTE, plan

if TYPE_CHECKING:
    from claude_bottle.backend.docker.api import Writer

PRIVATE, CREDENTIAL = "private-value-7f3a", "credential-value-91bc"
AGREES = out(b'{"ms": 1, "step": "s", "ready": true, "kept": true}\n') * 9


class Yes:
    """An engine that does all that it is asked for, whose programs agree to all that they could be asked.

    `refuse` is the beginning of what it refuses instead: a method and a path.
    """

    def __init__(self, refuse: str = "-", listed: tuple[dict[str, Any], ...] = ()) -> None:
        self._refuse = refuse
        self.there = {str(name).removeprefix("/"): left for left in listed for name in left["Names"]}
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self.asked: list[str] = []  # all that is recorded somewhere: questions and their bodies
        self.told: list[bytes] = []  # what each connection was told, when it has ended
        self.files = b""
        self.says = AGREES

    def _note(self, method: str, path: str, *more: object) -> None:
        with self._lock:
            self.asked.append(json.dumps([f"{method} {path}", *more]))
        if f"{method} {path}".startswith(self._refuse):
            raise EngineError("it is refused", 500)

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, object] | None = None,
        limit: int = 0,
        timeout: float = 0.0,
    ) -> bytes:
        self._note(method, path, query, body)
        with self._lock:
            if path == "/containers/create":
                assert isinstance(body, dict)
                assert query is not None
                name = str(query["name"])
                self.there[name] = {"Labels": body["Labels"], "State": "created", "Names": [f"/{name}"]}
            elif method == "DELETE":
                del self.there[path.removeprefix("/containers/")]
            return json.dumps([*self.there.values()] if path == "/containers/json" else {"Id": "0a"}).encode()

    def send(
        self, path: str, write: Callable[[Writer], None], *, query: Mapping[str, object] | None = None
    ) -> None:
        self._note("PUT", path, query)
        sent = bytearray()
        write(sent.extend)
        self.files += sent

    def converse(self, path: str, body: object = None) -> Line:
        self._note("CONVERSE", path, body)
        ours, theirs = socket.socketpair()
        theirs.sendall(self.says)
        thread = threading.Thread(target=self._listen, args=(theirs,))
        thread.start()
        self._threads.append(thread)
        return Line(ours)

    def _listen(self, sock: socket.socket) -> None:
        told = b""
        with sock, suppress(ConnectionResetError):  # it need not hear all that is said
            while data := sock.recv(1 << 16):
                told += data
        self.told.append(told)

    def finish(self) -> None:
        """Waits for the end of all connections."""
        for thread in self._threads:
            thread.join(15)
            assert not thread.is_alive()


class Bundle:
    def fill(self) -> None: ...

    def __call__(self) -> BundlePlan:
        return BundlePlan({}, {"env:TOKEN": CREDENTIAL})


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state" / NAMES.slug
    for name in ("home", "workspace"):
        (folder / name).mkdir(parents=True)
    (folder / "home" / "settings").write_text("the bottle's own")
    (folder / "authorities.pem").write_text("public\n")
    return folder


def planned(state: Path, facts: EngineFacts, runtime: str | None = None) -> DockerPlan:
    return plan(asked(state)._replace(runtime=runtime), facts)


def asked(state: Path) -> BottleRequest:
    grants = [grant._replace(source=grant.source.replace(STATE, str(state))) for grant in request().grants]
    assert AUTHORITIES in [grant.target for grant in grants]
    return request()._replace(paths=BottlePaths(state), grants=tuple(grants))


def start(
    engine: Yes,
    state: Path,
    facts: EngineFacts = LOCAL,
    bundle: Bundle | None = None,
    runtime: str | None = None,
) -> None:
    launching = Launching(planned(state, facts, runtime), engine, lambda *_: None)
    try:
        begin(launching, state, bundle)
        launching.keep()
    finally:
        engine.finish()


def begin(launching: Launching, state: Path, bundle: Bundle | None = None) -> None:
    envoy = EnvoyFiles("/no/envoy", str(state / "authorities.pem"))
    launching.start(Secrets({"KEY": PRIVATE}), envoy, bundle or Bundle())


@pytest.mark.parametrize("facts", [LOCAL, REMOTE], ids=["local", "remote"])
def test_no_secret_is_in_any_question_nor_in_any_file(state: Path, facts: EngineFacts) -> None:
    engine = Yes()
    start(engine, state, facts)
    questions = "\n".join(engine.asked)
    assert all(f'{{"name": "{name}"}}' in questions for name in (NAMES.agent, NAMES.sidecars))
    told = b"".join(engine.told)
    for secret in (PRIVATE, CREDENTIAL):
        assert secret.encode() in told
        assert secret not in questions
        assert secret.encode() not in engine.files
        assert not [path for path in state.rglob("*") if path.is_file() and secret in path.read_text()]


def test_each_container_is_told_its_own_secret_alone(state: Path) -> None:
    engine = Yes()
    start(engine, state)
    by_secret = [{secret.encode() in told for told in engine.told} for secret in (PRIVATE, CREDENTIAL)]
    assert by_secret == [{True, False}] * 2
    assert not [told for told in engine.told if PRIVATE.encode() in told and CREDENTIAL.encode() in told]


def test_the_bottles_files_are_moved_in(state: Path) -> None:
    engine = Yes()
    start(engine, state)
    assert b"the bottle's own" in engine.files
    assert not (state / "home").exists()


@pytest.mark.parametrize("runtime", [None, "runsc"])
def test_sidecars_are_told_of_the_ferry_and_gvisor_of_no_error_that_it_does_not_know(
    state: Path, runtime: str | None
) -> None:
    engine = Yes()
    start(engine, state, GVISOR, runtime=runtime)
    (spec,) = [told for told in engine.told if CREDENTIAL.encode() in told]
    assert f'"ferried": {json.dumps(runtime is not None)}'.encode() in spec
    (made,) = [said for said in engine.asked if f'{{"name": "{NAMES.agent}"}}' in said]
    host = json.loads(made)[2]["HostConfig"]
    (profile,) = [word.removeprefix("seccomp=") for word in host["SecurityOpt"] if "seccomp=" in word]
    errors = {rule.get("errnoRet") for rule in json.loads(profile)["syscalls"]}
    assert (errno.ENOSYS in errors, errno.EPERM in errors) == (runtime is None, True)
    assert host.get("Runtime") == runtime


REFUSALS = ["POST /containers/create", "CONVERSE /containers", "POST /containers/0a/start", "PUT /", "GET /"]


@pytest.mark.parametrize("refuse", REFUSALS)
def test_whatever_is_refused_nothing_is_left_and_no_connection_stays(state: Path, refuse: str) -> None:
    engine = Yes(refuse)
    with pytest.raises(BottleError, match="it is refused"):
        start(engine, state)
    assert engine.there == {}
    assert (state / "home" / "settings").exists()


@pytest.mark.parametrize("use", [Launching.take_probe, Launching.keep], ids=["probe", "keep"])
def test_where_the_sidecars_do_not_come_up_nobody_is_given_the_bottle(
    state: Path, use: Callable[[Launching], object]
) -> None:
    engine = Yes()
    engine.says = out(b'{"ms": 1, "step": "s"}\n') * 2 + out(b'{"error": "Envoy did not start"}\n')
    launching = Launching(planned(state, LOCAL), engine, lambda *_: None)
    begin(launching, state)
    with pytest.raises(BottleError, match="Envoy did not start"):
        use(launching)
    launching.abandon()
    engine.finish()
    assert engine.there == {}
    assert b"keep" not in b"".join(engine.told)


class Stop(BaseException):
    pass


def test_an_interrupted_start_leaves_nothing(state: Path) -> None:
    class Interrupted(Bundle):
        def __call__(self) -> BundlePlan:
            raise Stop

    engine = Yes()
    with pytest.raises(Stop):
        start(engine, state, bundle=Interrupted())
    assert any("/containers/create" in said for said in engine.asked)
    assert engine.there == {}


LEFT = item("agent", NAMES.agent, "exited", NAMES.slug)


def test_what_is_left_of_an_earlier_one_goes_first_and_beside_what_runs_none_is_made(state: Path) -> None:
    engine = Yes(listed=(LEFT,))
    start(engine, state)
    removal = next(
        place for place, said in enumerate(engine.asked) if f"DELETE /containers/{NAMES.agent}" in said
    )
    making = next(place for place, said in enumerate(engine.asked) if "POST /containers/create" in said)
    assert removal < making
    engine = Yes("POST", listed=({**LEFT, "State": "running"},))
    with pytest.raises(BottleError, match="runs already"):
        start(engine, state)
    assert not [said for said in engine.asked if "/containers/create" in said or "DELETE" in said]
