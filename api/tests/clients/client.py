"""Uses a cluster through the client that openapi-python-client has generated from its description.

    client.py URL    with the package `gatefold` on the path
"""

import sys
import uuid

from gatefold import AuthenticatedClient, Client
from gatefold.api.account import get_protected, list_events, register
from gatefold.api.operation import get_readiness
from gatefold.api.rooms import get_presence, publish_message
from gatefold.api.sessions import list_sessions, login, logout, refresh
from gatefold.models import (
    EventKind,
    LoggedIn,
    LoggedOut,
    LoginRequest,
    Presence,
    Problem,
    ProblemCode,
    Protected,
    PublishRequest,
    Published,
    Ready,
    Refreshed,
    RegisterRequest,
)

url = sys.argv[1]
# Keeps the cookies, as a browser does.
browser = Client(base_url=url)
username, password = f"python-{uuid.uuid4()}", "correct horse battery staple"


def expect(answer, kind):
    """Of one type, which the generated client has chosen by the status."""
    assert isinstance(answer, kind), answer
    return answer


def bearer(session):
    return AuthenticatedClient(base_url=url, token=session.access_token)


assert expect(get_readiness.sync(client=browser), Ready).status == "ok"
registered = expect(register.sync(client=browser, body=RegisterRequest(username=username, password=password)), LoggedIn)
assert registered.user.username == username and registered.expires_in > 0
taken = expect(register.sync(client=browser, body=RegisterRequest(username=username, password=password)), Problem)
assert taken.code is ProblemCode.USERNAME_TAKEN and taken.status == 409

wrong = expect(login.sync(client=Client(base_url=url), body=LoginRequest(username=username, password="wrong")), Problem)
assert wrong.code is ProblemCode.INVALID_CREDENTIALS and not wrong.require_reauth
logged_in = expect(login.sync(client=browser, body=LoginRequest(username=username, password=password)), LoggedIn)
assert logged_in.user.id == registered.user.id

refreshed = expect(refresh.sync(client=browser, idempotency_key=str(uuid.uuid4())), Refreshed)
caller = bearer(refreshed)
assert expect(get_protected.sync(client=caller), Protected).user.username == username
sessions = list_sessions.sync(client=caller).sessions
assert [session.current for session in sessions].count(True) == 1, sessions
events = list_events.sync(client=caller, kind=EventKind.LOGGED_IN, limit=1).events
assert all(event.kind is EventKind.LOGGED_IN for event in events), events

assert expect(get_presence.sync("lobby", client=caller), Presence).room == "lobby"
expect(publish_message.sync("lobby", client=caller, body=PublishRequest(data={"text": "Hello"})), Published)
forbidden = expect(get_presence.sync("private:python", client=caller), Problem)
assert forbidden.code is ProblemCode.FORBIDDEN_ROOM

ended = expect(logout.sync(client=browser), LoggedOut)
assert len(ended.sessions) == 1
assert expect(refresh.sync(client=browser), Problem).code is ProblemCode.MISSING_REFRESH_TOKEN
assert expect(get_protected.sync(client=bearer(refreshed)), Problem).code is ProblemCode.SESSION_REVOKED
print("used")
