"""/metrics, /livez and /readyz, asked over HTTP."""

import socket
from contextlib import ExitStack
from http.client import HTTPConnection
from threading import active_count

import pytest

from consumer.health import CALLERS, CannotListen, Health, _listen


class Worker:
    """What the server asks."""

    def __init__(self):
        self.alive = True
        self.ready = False

    def render(self):
        return b"headrace_model_version 7.0\n"


@pytest.fixture
def worker():
    return Worker()


@pytest.fixture
def health(worker):
    with Health(lambda: worker.render(), lambda: worker.alive, lambda: worker.ready, port=0) as health:
        yield health


def ask(health, path, method="GET"):
    connection = HTTPConnection("127.0.0.1", health.port, timeout=5)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode(), response.headers
    finally:
        connection.close()


def test_metrics_are_what_the_caller_renders(health):
    status, body, headers = ask(health, "/metrics?name[]=x")

    assert (status, body) == (200, "headrace_model_version 7.0\n")
    assert headers["Content-Type"].startswith("text/plain; version=")
    assert headers["Server"] == "headrace"


def test_livez_fails_when_the_loop_is_stuck(health, worker):
    before = ask(health, "/livez")[:2]

    worker.alive = False

    assert before == (200, "alive\n")
    assert ask(health, "/livez")[:2] == (503, "not alive\n")


def test_readyz_fails_until_the_worker_reads(health, worker):
    before = ask(health, "/readyz")[:2]

    worker.ready = True

    assert before == (503, "not ready\n")
    assert ask(health, "/readyz")[:2] == (200, "ready\n")


def test_readyz_says_what_keeps_the_worker_from_being_ready(worker):
    doing = ["compiling"]
    with Health(worker.render, lambda: True, lambda: worker.ready, doing=lambda: doing[0], port=0) as health:
        before = ask(health, "/readyz")[:2]

        worker.ready = True

        assert before == (503, "not ready: compiling\n")
        assert ask(health, "/readyz")[:2] == (200, "ready\n")


def test_a_head_request_has_the_status_and_no_body(health, worker):
    worker.ready = True

    status, body, headers = ask(health, "/readyz", "HEAD")

    assert (status, body, headers["Content-Length"]) == (200, "", "6")


def test_an_unknown_path_is_not_found_and_says_what_there_is(health):
    assert ask(health, "/")[:2] == (404, "there is /metrics, /livez, /readyz here\n")


def test_an_answer_that_fails_is_a_500_and_the_next_one_is_served(health, worker, caplog):
    worker.render = None

    status = ask(health, "/metrics")[0]

    assert status == 500
    assert "no answer to /metrics" in caplog.text
    assert ask(health, "/livez")[0] == 200


def test_another_method_is_refused(health):
    assert ask(health, "/livez", "POST")[0] == 501


def test_it_listens_on_this_machine_only_unless_told_otherwise(health):
    assert health._server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize(("host", "before_the_port"), [("127.0.0.1", "http://127.0.0.1"), ("::1", "http://[::1]")])
def test_its_url_is_one_also_where_the_address_has_colons(worker, host, before_the_port):
    try:
        health = Health(worker.render, lambda: True, lambda: True, host=host, port=0)
    except CannotListen:
        pytest.skip(f"no {host} on this machine")

    with health:
        assert health.url == f"{before_the_port}:{health.port}"


def test_a_silent_caller_does_not_keep_others_waiting(health):
    with socket.create_connection(("127.0.0.1", health.port)):
        assert ask(health, "/livez")[0] == 200


def test_callers_who_hang_do_not_take_all_threads_and_files_of_the_worker_and_others_are_answered(health):
    threads = active_count()
    with ExitStack() as hanging:
        callers = [
            hanging.enter_context(socket.create_connection(("127.0.0.1", health.port), timeout=5))
            for _ in range(CALLERS + 20)
        ]
        for caller in callers[20:]:
            caller.sendall(b"GET /livez")  # and nothing more: those before have said nothing at all

        answers = [ask(health, "/livez")[0] for _ in range(5)]

        assert active_count() <= threads + CALLERS
        assert all(caller.recv(1) == b"" for caller in callers[:20])  # hung up on

    assert answers == [200] * 5
    assert ask(health, "/livez")[0] == 200


def test_many_who_come_at_once_wait_to_be_let_in_and_need_not_come_again():
    with _listen("127.0.0.1", 0, {}) as server, ExitStack() as callers:  # nobody lets them in
        for _ in range(50):
            callers.enter_context(socket.create_connection(server.server_address, timeout=5))


def test_a_busy_port_is_an_error_that_names_the_setting(health, worker):
    with pytest.raises(CannotListen, match=rf"port {health.port}: Address already in use.*HEADRACE_METRICS_PORT"):
        Health(worker.render, lambda: True, lambda: True, port=health.port)


def test_nobody_is_asked_for_the_name_of_the_host(worker, monkeypatch):
    def ask_dns(*_):
        raise AssertionError("this may take as long as DNS does")

    for name in ("getfqdn", "gethostbyaddr"):
        monkeypatch.setattr(socket, name, ask_dns)

    with Health(worker.render, lambda: True, lambda: True, port=0) as health:
        status = ask(health, "/livez")[0]

    assert status == 200


def test_an_address_that_is_not_ours_is_an_error_that_names_the_setting(worker):
    with pytest.raises(CannotListen, match=r"cannot listen on 192\.0\.2\.1 port 0: .*HEADRACE_METRICS_HOST"):
        Health(worker.render, lambda: True, lambda: True, host="192.0.2.1", port=0)


def test_after_close_nothing_listens_and_no_thread_is_left(worker):
    threads = active_count()
    health = Health(worker.render, lambda: True, lambda: True, port=0)
    port = health.port

    health.close()

    assert active_count() == threads
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
